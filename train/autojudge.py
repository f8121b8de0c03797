"""Mine which mismatches of a draft matter, and train AutoJudge's classifier on them.

accelerate launch --config_file accelerate_configs/cpu.yaml train/autojudge.py RECIPE [key=value ...]
"""

import sys

from toolkit.training import main

if __name__ == "__main__":
    sys.exit(main.autojudge(sys.argv[1:]))
