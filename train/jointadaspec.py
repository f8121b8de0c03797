"""Solve JointAdaSpec policies from traces.

accelerate launch --config_file accelerate_configs/cpu.yaml train/jointadaspec.py RECIPE [key=value ...]
"""

import sys

from toolkit.training import main

if __name__ == "__main__":
    sys.exit(main.jointadaspec(sys.argv[1:]))
