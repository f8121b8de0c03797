"""Try drafts on training prompts, and train a router that says which of them serves a prompt.

accelerate launch --config_file accelerate_configs/cpu.yaml train/router.py RECIPE [key=value ...]
"""

import sys

from toolkit.training import main

if __name__ == "__main__":
    sys.exit(main.router(sys.argv[1:]))
