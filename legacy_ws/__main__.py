"""``python -m legacy_ws``."""

import sys

from legacy_ws.process import main

if __name__ == "__main__":
    sys.exit(main())
