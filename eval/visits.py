"""How well JointAdaSpec policies know what they meet while decoding: `python -m eval.visits RECIPE [key=value ...]`."""

import sys

from toolkit.evaluation import visits

if __name__ == "__main__":
    sys.exit(visits.main(sys.argv[1:]))
