"""`python -m slap` is `slap`."""

import sys

from slap.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
