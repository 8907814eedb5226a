"""How long cases will take, roughly, said before anything is loaded."""

from bertsquad import machine
from bertsquad.cases import Case, sample_count
from bertsquad.datasets import DATASETS
from bertsquad.loadgen import QUICK_DURATION_S, SCENARIOS
from bertsquad.options import Options
from bertsquad.rules import MIN_DURATION_S, SAMPLES

#: Nominal GFLOP/s: of a core for the CPU devices, of the whole for the GPUs.
_GFLOPS = {"cpu": 80.0, "openvino": 120.0, "cuda": 10_000.0, "tensorrt": 10_000.0}
#: Seconds for warm-up and probe, and a case's share of loading.
_OVERHEAD_S = 3.0


def estimate_s(case: Case, mode: str, options: Options) -> float:
    """Seconds that the case may take on this machine, within a factor of two or so."""
    per_core = case.device in ("cpu", "openvino")
    speed = _GFLOPS[case.device] * (machine.cores() if per_core else 1)
    sample_s = case.model.gflop / speed
    if mode == "accuracy":
        samples = sample_count(case, options, DATASETS[case.dataset].samples)
        return _OVERHEAD_S + samples * sample_s
    duration = MIN_DURATION_S if options.rules == "mlperf" else QUICK_DURATION_S
    queries = SCENARIOS[case.scenario].samples_per_query * 8
    if options.rules == "mlperf" and case.scenario == "offline":
        queries = SAMPLES
    return _OVERHEAD_S + max(options.min_duration_s or duration, queries * sample_s)
