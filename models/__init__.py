"""Offline: trains, exports, quantises and measures what the service loads."""

import os

# As in service/runtime: before onnxruntime is imported, or it reports its sessions.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
