"""Throughput of distillation beside TRL's: `python -m eval.distill_bench RECIPE [key=value ...]`."""

import sys

from toolkit.training.distill_bench import main

if __name__ == "__main__":
    sys.exit(main())
