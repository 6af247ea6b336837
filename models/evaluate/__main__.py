"""`python -m models.evaluate`: measures models on test data, through the code that serves them."""

import sys

from models.evaluate.command import main

if __name__ == "__main__":
    sys.exit(main())
