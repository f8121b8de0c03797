"""Acceptance rules say which drafted tokens to keep. One file a rule; the file's name is its registry key."""
