"""Engines other than this loop, for what is exported to them."""
