"""Draftsmith: train the learned pieces of speculative decoding, and prove what each is worth."""

__version__ = "0.1.0"
