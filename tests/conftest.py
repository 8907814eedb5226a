"""What holds for all tests of the suite itself."""

import os

# Some tests load ONNX Runtime in the pytest process, which would report to its maker.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
