"""`python -m nlpft COMMAND ...`, and with it `accelerate launch -m nlpft COMMAND ...`: the same as `nlpft COMMAND ...`."""

import sys

from nlpft.cli import main

if __name__ == "__main__":
    sys.exit(main())
