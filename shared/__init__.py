import os

# ONNX Runtime reports its use to its maker, and writes to the home folder, unless this is set before its import (1.31).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
