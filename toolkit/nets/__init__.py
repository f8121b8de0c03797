"""Networks that are trained beside a target. They know tensors, and nothing of loops, recipes or files."""
