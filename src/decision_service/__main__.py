"""`python -m decision_service`: the command line."""

import sys

from decision_service.cli import main

if __name__ == "__main__":
    sys.exit(main())
