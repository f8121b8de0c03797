"""One eval recipe under every combination of some changes: `python -m eval.study RECIPE [key=value ...]`."""

import sys

from toolkit.evaluation import study

if __name__ == "__main__":
    sys.exit(study.main(sys.argv[1:]))
