"""Published MLPerf figures of BERT-large on SQuAD v1.1, to stand beside one's own.

Each was read in the LoadGen summary of the submission that it names: samples/s for Offline,
completed samples/s for Server, and for SingleStream the early-stopping estimate of the 90th
percentile, in ms. A result's `mlperf_metric_value` is the same.
"""

from dataclasses import dataclass

from bertsquad.devices import GPUS
from bertsquad.results.result import Result
from bertsquad.rules import CLOSED_MODELS
from bertsquad.scenarios import SCENARIOS


@dataclass(frozen=True)
class Published:
    """One submission: what it ran on, and its figure by scenario.

    `cores` are the physical cores of the CPU that did the work, None if a GPU did it. `precision`
    is None if the submission doesn't state it.
    """

    round: str
    division: str
    submitter: str
    system: str
    hardware: str
    software: str
    precision: str | None
    cores: int | None
    offline: float | None = None
    server: float | None = None
    singlestream: float | None = None

    @property
    def source(self) -> str:
        """The address of the submission's logs."""
        return (
            f"https://github.com/mlcommons/inference_results_{self.round}/tree/main/"
            f"{self.division}/{self.submitter}/results/{self.system}/bert-99"
        )

    def figure(self, scenario: str) -> float | None:
        """Its figure in a scenario, None if it has none."""
        found: float | None = getattr(self, scenario, None)
        return found


PUBLISHED = (
    Published(
        "v3.0",
        "closed",
        "Intel",
        "1-node-2S-SPR-PyTorch-INT8",
        "2 x Intel Xeon Platinum 8480+, 112 cores",
        "PyTorch",
        "int8",
        112,
        offline=1382.79,
        server=1103.14,
    ),
    Published(
        "v4.0",
        "closed",
        "Intel",
        "1-node-2S-EMR-PyTorch",
        "2 x Intel Xeon Platinum 8592+, 128 cores",
        "PyTorch",
        None,
        128,
        offline=1668.5,
        server=1318.42,
    ),
    Published(
        "v4.0",
        "closed",
        "CTuning",
        "PCSPECIALIST_AMD_AM5_PC-reference-cpu-onnxruntime-v1.15.1-default_config",
        "AMD Ryzen 9 7950X, 16 cores",
        "MLCommons' reference, ONNX Runtime 1.15.1",
        "fp32",
        16,
        offline=5.82045,
        singlestream=311.544699,
    ),
    Published(
        "v4.0",
        "closed",
        "CTuning",
        "PCSPECIALIST_AMD_AM5_PC_with_Nvidia_RTX_4090-reference-gpu-onnxruntime-v1.16.3-default_config",
        "NVIDIA GeForce RTX 4090",
        "MLCommons' reference, ONNX Runtime 1.16.3",
        None,
        None,
        offline=218.188,
        singlestream=6.883665,
    ),
    Published(
        "v4.1",
        "open",
        "Krai",
        "7920t-kilt-onnxruntime_gpu",
        "NVIDIA RTX A5000",
        "KILT, ONNX Runtime 1.18.1",
        None,
        None,
        offline=65.5708,
        singlestream=15.877397,
    ),
)


def why_not(result: Result) -> str | None:
    """Why no published figure can stand beside a result; None if some can."""
    if result.model not in CLOSED_MODELS:
        return f"{result.model} is not MLPerf's BERT-large"
    if result.dataset != "squad":
        return f"{result.dataset} is not SQuAD v1.1"
    if result.mode != "performance" or result.mlperf_metric_value is None:
        return "it has no MLPerf metric"
    if all(one.figure(result.scenario) is None for one in PUBLISHED):
        return f"no figure of the scenario {result.scenario} is kept here"
    return None


@dataclass(frozen=True)
class Row:
    """A row of the table that compares a run with published figures.

    `cores` are those of the CPU that did the work, as far as they are known.
    """

    what: str
    hardware: str
    precision: str
    figure: float
    unit: str
    cores: int | None
    source: str | None = None

    @property
    def per_core(self) -> float | None:
        """A rate for each core; None for a latency."""
        return self.figure / self.cores if self.unit == "samples/s" and self.cores else None


def compare(result: Result) -> list[Row]:
    """A result and the published figures of its scenario, a row each; see `why_not` first."""
    unit = "samples/s" if SCENARIOS[result.scenario].has_rate else "ms"
    cores = result.provenance.get("physical_cores") if result.device not in GPUS else None
    rows = [
        Row(
            "this run",
            str(result.provenance.get("cpu", "")),
            result.precision,
            result.mlperf_metric_value or 0.0,
            unit,
            cores if isinstance(cores, int) else None,
        )
    ]
    for one in PUBLISHED:
        if (figure := one.figure(result.scenario)) is not None:
            what = f"{one.submitter}, {one.round} {one.division}, {one.software}"
            precision = one.precision or "not stated"
            rows.append(Row(what, one.hardware, precision, figure, unit, one.cores, one.source))
    return rows
