"""What the processes that the suite starts find in their environment."""

import os
from pathlib import Path


def of_child() -> dict[str, str]:
    """The environment of a child that loads this package and the runtimes.

    This package comes first, wherever it was imported from. ONNX Runtime's wheels report to their
    maker from a background thread unless told not to before they start: traffic that nobody asked
    for, beside what is being timed. And a filter that turns warnings into errors is meant for the
    code under test: in the libraries, which warn of their own affairs, it would make a model fail
    that runs elsewhere.
    """
    inherited = {name: text for name, text in os.environ.items() if name != "PYTHONWARNINGS"}
    paths = [
        str(Path(__file__).resolve().parents[2]),
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]
    return inherited | {"ORT_DISABLE_TELEMETRY": "1", "PYTHONPATH": os.pathsep.join(paths)}
