"""One run, a sweep or a study of this project: `python run.py --help` says what can be chosen."""

import sys

from experiments.run import main

if __name__ == "__main__":
    sys.exit(main(__file__))
