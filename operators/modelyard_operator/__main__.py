"""`python -m modelyard_operator`."""

import sys

from modelyard_operator.main import main

if __name__ == "__main__":
    sys.exit(main())
