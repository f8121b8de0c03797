"""Measuring: a recipe becomes records (one row a prompt, method and seed), and records become tables."""
