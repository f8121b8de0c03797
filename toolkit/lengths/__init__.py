"""Length policies say when to stop drafting. One file a policy; the file's name is its registry key."""
