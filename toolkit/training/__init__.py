"""What the programs in `train/` do: data, training runs, and the artifacts they end in."""
