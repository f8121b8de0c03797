"""The accuracy-speed front of finished evals: `python -m eval.compare DIR... [--out DIR]`."""

import sys

from toolkit.evaluation import pareto_report

if __name__ == "__main__":
    sys.exit(pareto_report.main(sys.argv[1:]))
