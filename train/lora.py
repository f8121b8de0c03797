"""Train a LoRA adapter.

accelerate launch --config_file accelerate_configs/cpu.yaml train/lora.py RECIPE [key=value ...]
"""

import sys

from toolkit.training import main

if __name__ == "__main__":
    sys.exit(main.lora(sys.argv[1:]))
