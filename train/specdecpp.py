"""Train a SpecDec++ acceptance head on recorded traces.

accelerate launch --config_file accelerate_configs/cpu.yaml train/specdecpp.py RECIPE [key=value ...]
"""

import sys

from toolkit.training import main

if __name__ == "__main__":
    sys.exit(main.specdecpp(sys.argv[1:]))
