"""`python -m distill`, the same as the command `distill`."""

import sys

from distill.run import main

if __name__ == "__main__":
    sys.exit(main())
