"""Train an EAGLE-3 head.

accelerate launch --config_file accelerate_configs/cpu.yaml train/eagle3.py RECIPE [key=value ...]
"""

import sys

from toolkit.training import main

if __name__ == "__main__":
    sys.exit(main.eagle3(sys.argv[1:]))
