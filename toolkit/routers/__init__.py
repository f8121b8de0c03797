"""Routers say which draft serves a prompt. One file a router; the file's name is its registry key."""
