"""Speed side by side with transformers: `python -m eval.bench [RECIPE] [key=value ...]`."""

import sys

from toolkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
