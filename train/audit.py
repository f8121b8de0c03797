"""A report on the data that a recipe trains on: `python train/audit.py RECIPE [key=value ...]`."""

import sys

from toolkit.training.report import main

if __name__ == "__main__":
    sys.exit(main())
