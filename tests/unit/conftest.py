"""Makes `tests/unit/fakes.py` importable as `fakes`: the test folders are no packages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
