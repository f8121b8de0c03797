"""Record what a target says to training prompts, or traces of decoding them.

accelerate launch --config_file accelerate_configs/cpu.yaml train/collect.py RECIPE [key=value ...]
"""

import sys

from toolkit.training import main

if __name__ == "__main__":
    sys.exit(main.collect(sys.argv[1:]))
