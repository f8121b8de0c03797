"""Shipped recipes and launch configurations: read, fitted together, built; nothing is run."""
