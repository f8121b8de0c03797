"""The exactness suite: what the decoding loop emits has exactly the law it claims, and the tests can tell."""
