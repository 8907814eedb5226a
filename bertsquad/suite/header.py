"""What is said before anything runs: what is under test, and how long it may take."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from bertsquad.assets import cache
from bertsquad.devices import DEVICES
from bertsquad.loadgen.user_conf import UserConf
from bertsquad.machine import gpus, hardware, processor, provenance, tuning
from bertsquad.rules import SAMPLES
from bertsquad.scenarios import SCENARIOS
from bertsquad.suite.cases import Case, collect, division, sample_count
from bertsquad.suite.durations import Course
from bertsquad.suite.options import Options

#: Seconds for warm-up and probe, and a case's share of loading.
_OVERHEAD_S = 3.0
#: From so many seconds on, minutes are exact enough.
_IN_MINUTES_S = 300
#: How many of the lines of a user.conf without effect are shown.
_SHOWN = 10


def estimate_s(case: Case, mode: str, options: Options) -> float:
    """Seconds that the case may take on this machine, within a factor of two or so."""
    device = DEVICES[case.device]
    cores = hardware.cores()
    gpus_used = len(division(case, options, cores).used)
    speed = device.gflops * (gpus_used if device.is_gpu else cores)
    sample_s = case.model.gflop / speed
    if mode == "accuracy":
        samples = sample_count(case, options, case.dataset.samples, mode)
        return _OVERHEAD_S + samples * sample_s
    queries = SCENARIOS[case.scenario].samples_per_query * 8
    if options.rules == "mlperf" and case.scenario == "offline":
        queries = SAMPLES
    return _OVERHEAD_S + max(options.shortest_s(case.scenario), queries * sample_s)


def header(options: Options) -> list[str]:
    """What is under test: versions, machine, models, data sets, folders, rules."""
    cases = collect(options)
    models = {case.model.name: case.model.description for case in cases}
    datasets = {case.dataset.name: case.dataset.description for case in cases}
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions().items())
    return [
        f"versions: {versions}",
        f"machine: {hardware.cpu_name()}, {hardware.cores()} cores; GPU: {gpus.summary()}",
        f"processor: {tuning.in_short(processor.read(), hardware.quota()) or 'unknown'}",
        *(f"model {name}: {text}" for name, text in models.items()),
        *(f"data set {name}: {text}" for name, text in datasets.items()),
        f"folders: data {cache.data_folder()}, cache {cache.cache_folder()}, "
        f"output {options.output}",
        *([f"cluster: {options.cluster}"] if options.cluster else []),
        f"rules: {options.rules}",
        *_of_user_conf(options.user_conf),
    ]


def _of_user_conf(conf: UserConf | None) -> Iterator[str]:
    """What LoadGen reads in the user.conf, and what has no effect."""
    if conf is not None:
        yield f"user.conf {conf.file}, as LoadGen reads it: {conf}"
        if conf.passed_over:
            some = [*conf.passed_over[:_SHOWN], *(["..."] if conf.passed_over[_SHOWN:] else [])]
            yield f"user.conf {conf.file}, of no effect: {', '.join(some)}"


def workload(
    chosen: Sequence[tuple[Case, str]],
    options: Options,
    known: Mapping[str, float] = MappingProxyType({}),
) -> str:
    """How many (case, mode) pairs are to run in this order, and how long that may take.

    `known` are the durations of earlier pytest sessions, by the keys of `suite/durations`.
    """
    count = "1 case" if len(chosen) == 1 else f"{len(chosen)} cases"
    if options.cluster is not None:  # whose speed nobody knows yet
        return f"{count} to run on the cluster {options.cluster} if their files can be had"
    course, seconds = Course(options), 0.0
    for case, mode in chosen:
        step = course.next(case, mode)
        rough = sum(estimate_s(case, one, options) for one in step.modes)
        seconds += known.get(step.key, rough)
    time = f"{seconds / 60:.0f} min" if seconds >= _IN_MINUTES_S else f"{seconds:.0f} s"
    return f"{count} to run, about {time} on this machine if their files can be had"
