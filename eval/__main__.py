"""`python -m eval RECIPE [key=value ...]`: measure the methods of a recipe against plain autoregression."""

import sys

from toolkit.evaluation.run import main

if __name__ == "__main__":
    sys.exit(main())
