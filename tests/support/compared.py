"""The figures of a result, as comparisons look at them."""

from copy import deepcopy
from typing import Any

from bertsquad.assets import registry
from bertsquad.results.result import SCHEMA_VERSION
from bertsquad.squad.datasets import DATASETS

#: What is compared of a timed case.
FIGURES: dict[str, Any] = {
    "schema_version": SCHEMA_VERSION,
    "mode": "performance",
    "scenario": "offline",
    "device": "cpu",
    "precision": "fp32",
    "rules": "quick",
    "sample_count": 494,
    "dataset_samples": 494,
    "buffer_size": 494,
    "min_duration_s": 3.0,
    "target_qps": 40.0,
    "target_latency_ms": None,
    "target_source": "probe",
    "qps": 41.0,
    "provenance": {
        "model_checksum": registry.entries()["pocket/minilm-squad.onnx"].digest,
        "dataset_checksum": registry.entries()[str(DATASETS["pocket"].file)].checksum,
        "instances": 2,
        "threads": 1,
        "cores": 2,
        "versions": {"onnxruntime": "1"},
    },
}


SERVER = FIGURES | {"scenario": "server", "target_latency_ms": 130.0}


def changed(figures: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy with other values; `provenance__KEY` changes one in the provenance."""
    copy = deepcopy(figures)
    for key, value in changes.items():
        place, _, inner = key.rpartition("__")
        (copy[place] if place else copy)[inner] = value
    return copy
