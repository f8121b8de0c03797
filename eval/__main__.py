"""`python -m eval RECIPE | DIR... [key=value ...]`, also `draftsmith eval`: methods beside plain autoregression."""

import sys

from toolkit import cli

if __name__ == "__main__":
    sys.exit(cli.main(["eval", *sys.argv[1:]]))
