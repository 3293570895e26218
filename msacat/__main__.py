"""`python -m msacat` is the command `msacat`."""

import sys

from msacat.cli.main import main

if __name__ == "__main__":  # worker processes import this file too
    sys.exit(main())
