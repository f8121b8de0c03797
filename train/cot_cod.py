"""Target, its answers, draft: three stages in one command.

accelerate launch --config_file accelerate_configs/cpu.yaml train/cot_cod.py RECIPE [key=value ...]
"""

import sys

from toolkit.training import main

if __name__ == "__main__":
    sys.exit(main.cot_cod(sys.argv[1:]))
