"""Trains, exports, quantises and evaluates the models that the service loads."""

import os
import sys

# As in service/runtime: before onnxruntime is imported, or it reports its sessions.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Progress bars in a log: a line a minute instead of ten a second, and none for short loops. tqdm
# reads these variables when it is imported.
if not (sys.stderr and sys.stderr.isatty()):
    os.environ.setdefault("TQDM_MININTERVAL", "60")
    os.environ.setdefault("TQDM_DELAY", "60")
