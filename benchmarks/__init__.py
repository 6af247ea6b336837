"""Measures Quartet against the same graphs run with no service around them.

Start at `__main__.py`; what is measured, and how, is written in `docs/benchmarks.md`.
"""

import os

# As in service/runtime: before onnxruntime is imported, or it reports its sessions.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
