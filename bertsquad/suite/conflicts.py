"""What can't go together on the command line: each function raises SuiteError if it does."""

from collections.abc import Mapping, Sequence

from bertsquad import rules
from bertsquad.cluster.address import FORMS, Address
from bertsquad.devices import DEVICES, GPUS
from bertsquad.errors import SuiteError
from bertsquad.loadgen.user_conf import UserConf, plain
from bertsquad.models.zoo import Model
from bertsquad.squad.datasets import DatasetEntry


def refuse_shorter(
    dataset_size: int | str | None, buffer_size: int | None, min_duration_s: float | None
) -> None:
    """Refuse what would make a run under --rules mlperf shorter than MLPerf wants it."""
    if dataset_size is not None:
        raise SuiteError(
            "--dataset-size can't go with --rules mlperf, which runs the whole data set"
        )
    if buffer_size is not None and buffer_size < rules.SAMPLES:
        raise SuiteError(
            f"--buffer-size {buffer_size} can't go with --rules mlperf, which draws from all "
            "samples"
        )
    if min_duration_s is not None and min_duration_s < rules.MIN_DURATION_S:
        raise SuiteError(
            f"--min-duration-s {min_duration_s:g} can't go with --rules mlperf, which wants "
            f"{rules.MIN_DURATION_S:g} s or more"
        )


def refuse_unofficial(conf: UserConf) -> None:
    """Refuse a user.conf that changes what MLPerf's rules leave to LoadGen."""
    for scenario, found in conf.settings.items():
        for key, value in found.items():
            if key in ("target_qps", "target_latency") or value == conf.own[scenario][key]:
                continue
            if key == "min_duration" and value >= rules.MIN_DURATION_S * 1000:
                continue
            raise SuiteError(
                f"{conf.file} sets {key} to {plain(value)} for {scenario}, but --rules mlperf "
                "leaves all but the targets, and a min_duration of "
                f"{rules.MIN_DURATION_S * 1000:g} ms or more, to LoadGen"
            )


def refuse_other_nodes(cluster: Address | None, nodes: int | None) -> None:
    """Refuse a number of nodes without a cluster, or another one than a local cluster has."""
    if nodes is None:
        return
    if cluster is None:
        raise SuiteError(f"--nodes is for a cluster: give one with --cluster {FORMS}")
    if cluster.local not in (None, nodes):
        raise SuiteError(
            f"--nodes {nodes} can't go with --cluster {cluster}, which has {cluster.local}: leave "
            "--nodes out"
        )


def refuse_to_accept(accept: bool, gate: float | None) -> None:
    """Refuse to accept figures where no gate looks at them."""
    if accept and gate is None:
        raise SuiteError("--gate-accept is for --gate, whose baseline it makes anew: give both")


def refuse_without_gpu(given: str, devices: Sequence[str]) -> None:
    """Refuse an option for GPUs where only other devices were named."""
    if devices and not any(DEVICES[name].is_gpu for name in devices):
        raise SuiteError(
            f"{given} is for GPUs: give --device {' or '.join(GPUS)} too, or leave it out"
        )


def refuse_foreign(
    given: Mapping[str, object], models: Sequence[Model], datasets: Sequence[DatasetEntry]
) -> None:
    """Refuse an option for a model or data of the user's own where there is none.

    `given` has the options' values by flag, None for what wasn't given.
    """
    model = "a model of your own: give one with --model DIR|FILE"
    read = "a model with a tokeniser of its own, since MLPerf's rules leave no choice to others"
    data = "data of your own, since the others bring theirs: give some with --dataset FILE"
    own = any(one.path is not None for one in models)
    reads = any(one.path is not None and one.tokeniser is not None for one in models)
    brings = any(one.path for one in datasets)
    for flag, fits, meant in (
        ("--tokenizer", own, model),
        ("--outputs", own, model),
        ("--max-length", reads, read),
        ("--doc-stride", reads, read),
        ("--null-threshold", brings, data),
        ("--calibration", brings, data),
    ):
        if given.get(flag) is not None and not fits:
            raise SuiteError(f"{flag} is for {meant}")
