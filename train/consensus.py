"""Train a gate for Consensus AutoJudge on a target's recorded answers.

accelerate launch --config_file accelerate_configs/cpu.yaml train/consensus.py RECIPE [key=value ...]
"""

import sys

from toolkit.training import main

if __name__ == "__main__":
    sys.exit(main.consensus(sys.argv[1:]))
