"""Distil a draft: a small model, or some of the target's own layers.

accelerate launch --config_file accelerate_configs/cpu.yaml train/distill.py RECIPE [key=value ...]
"""

import sys

from toolkit.training import main

if __name__ == "__main__":
    sys.exit(main.distill(sys.argv[1:]))
