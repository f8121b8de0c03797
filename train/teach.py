"""Answers from a stronger model, to train on: `python train/teach.py RECIPE [key=value ...]`."""

import sys

from toolkit.training.teacher import main

if __name__ == "__main__":
    sys.exit(main())
