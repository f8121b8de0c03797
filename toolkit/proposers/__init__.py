"""Proposers draft tokens. One file a proposer; the file's name is its registry key."""
