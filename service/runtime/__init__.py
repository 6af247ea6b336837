"""ONNX Runtime: devices, sessions, warm-up. The only place of the service that knows it."""

import os

# From 1.29 on it tells Microsoft of every session, unless this is set before it is imported: names
# and hashes of graphs, the device, and an id that it keeps in the user's home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
