"""The decoding loop and what it stands on. It knows no piece by name."""
