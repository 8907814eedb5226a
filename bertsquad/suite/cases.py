"""Which cases there are: model x data set x scenario x device x precision."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bertsquad.devices import DEVICES
from bertsquad.errors import SuiteError
from bertsquad.machine import gpus
from bertsquad.models.zoo import DEFAULT_MODELS, MODELS, Model
from bertsquad.rules import QUICK_ANSWERS
from bertsquad.runtime import parallelism
from bertsquad.runtime.availability import why_not
from bertsquad.scenarios import MODES, SCENARIOS
from bertsquad.squad.datasets import DATASETS, DatasetEntry
from bertsquad.suite.options import Options


@dataclass(frozen=True)
class Case:
    """One thing to measure."""

    model: Model
    dataset: DatasetEntry
    scenario: str
    device: str
    precision: str

    @property
    def id(self) -> str:
        """The name of the case, as in `test_accuracy[minilm-pocket-offline-cpu-fp32]`."""
        names = self.model.name, self.dataset.name, self.scenario, self.device, self.precision
        return "-".join(names)

    @property
    def params(self) -> dict[str, str]:
        """What it is in plain words, for JSON and for `--benchmark-group-by=param:device`."""
        return {
            "case": self.id,
            "model": self.model.name,
            "dataset": self.dataset.name,
            "scenario": self.scenario,
            "device": self.device,
            "precision": self.precision,
        }

    @property
    def quantised(self) -> bool:
        """Whether the suite must quantise the model for it, unless the user's own is so already."""
        return self.precision == "int8" != self.model.precision

    @property
    def markers(self) -> tuple[str, str]:
        """The pytest markers that select the case: its scenario, and `cpu` or `gpu`."""
        return self.scenario, DEVICES[self.device].marker

    @property
    def group(self) -> tuple[str, str, str, str]:
        """What cases must share to run in one worker, one after the other."""
        return self.model.name, self.dataset.name, self.device, self.precision


def collect(options: Options, mode: str = "performance") -> list[Case]:
    """All cases of a mode that `options` ask for, those of one group side by side.

    Precisions that a device can't calculate in are left out, unless the user named the device. A
    model of random weights has cases for performance alone.
    """
    models = options.models or tuple(MODELS[name] for name in DEFAULT_MODELS)
    _refuse_namesakes("models", models)
    _refuse_namesakes("data sets", options.datasets)
    devices = options.devices or tuple(DEVICES)
    cases = []
    for model in models:
        if model.random and mode != "performance":
            continue
        for dataset in options.datasets or (DATASETS[model.dataset],):
            for precision in options.precisions or (model.precision,):
                for device in devices:
                    if precision not in DEVICES[device].precisions:
                        if options.devices:
                            raise SuiteError(_mismatch(device, precision))
                        continue
                    cases += [
                        Case(model, dataset, scenario, device, precision) for scenario in SCENARIOS
                    ]
    distinct = list(dict.fromkeys(cases))
    names = Counter(case.id for case in distinct)
    if twice := next((name for name, count in names.items() if count > 1), None):
        raise SuiteError(f"two of the cases would both be called {twice}: rename a file")
    return distinct


def _refuse_namesakes(kind: str, entries: Sequence[Model | DatasetEntry]) -> None:
    """SuiteError where two that differ have one name, by which results and workers are told."""
    for entry in entries:
        same = [other for other in dict.fromkeys(entries) if other.name == entry.name]
        if len(same) > 1:
            files = " and ".join(str(other.path) for other in same)
            raise SuiteError(
                f"two of the {kind} would both be called {entry.name}: rename a file ({files})"
            )


def leaves_out(options: Options) -> bool:
    """Whether a part of the user's own questions is left out of all cases, to calibrate int8 with.

    That depends on what is asked for, not on which cases of it are selected.
    """
    return options.calibration is None and any(case.quantised for case in collect(options))


def of_test(test: str, options: Options) -> tuple[Case, str] | None:
    """The case and the mode of a test by pytest's name of it; None if it is another test.

    Plugins that repeat tests add to the name.
    """
    found = [
        (case, mode)
        for mode in MODES
        if f"::test_{mode}[" in test
        for case in collect(options, mode)
        if case.id in test
    ]
    return max(found, key=lambda one: len(one[0].id), default=None)


def _mismatch(device: str, precision: str) -> str:
    able = [name for name, entry in DEVICES.items() if precision in entry.precisions]
    return f"--device {device} can't calculate in {precision}; that runs on {', '.join(able)}"


def is_named(subject: str, case: Case, options: Options) -> bool:
    """Whether the user asked for the `subject` of an Unavailable, so that the case must fail.

    Who names a model asks for its data set too, and who names a precision other than the model's
    own asks for the devices that calculate in it. A cluster is never a default.
    """
    if subject == "model":
        return bool(options.models)
    if subject == "dataset":
        return bool(options.datasets or options.models)
    if subject == "cluster":
        return True
    return bool(options.devices) or (
        case.precision in options.precisions and case.precision != case.model.precision
    )


def missing_device(case: Case, options: Options) -> str | None:
    """Why the device of a case can't be had, as far as that shows without a runtime.

    A cluster's nodes have the devices, and only they know which.
    """
    if options.cluster is not None:
        return None
    reason = why_not(DEVICES[case.device])
    return None if reason is None else f"{case.device}: {reason}"


def not_for_clusters(case: Case, options: Options) -> str | None:
    """Why the case doesn't run on a cluster, if one is asked for and it doesn't."""
    scenario = SCENARIOS[case.scenario]
    if options.cluster is None or not scenario.one_at_a_time:
        return None
    return (
        f"{scenario.loadgen_name} has one query at a time, which the nodes of a cluster can't share"
    )


def division(
    case: Case, options: Options, cores: int, owned: Sequence[int] = ()
) -> parallelism.Parallelism:
    """How the case divides `cores`, pinned to the CPUs `owned` where there are as many.

    On a GPU device it divides the GPUs too.
    """
    on_gpu = DEVICES[case.device].is_gpu
    return parallelism.plan(
        case.scenario,
        case.device,
        cores,
        options.instances,
        options.threads,
        owned,
        gpus.count(options.gpus) if on_gpu else 1,
    )


def running_order(cases: Sequence[Case], options: Options, cores: int) -> list[int]:
    """The order to run `cases` in, as indices into them: by group, then by division of the cores.

    So one worker serves a whole group, and seldom makes its sessions anew. Groups, and divisions
    within a group, come in the order of their first cases; but those of a model in fp32 come before
    its others on the same data, whose answers are compared with those in fp32.
    """
    groups: dict[tuple[str, ...], dict[parallelism.Parallelism, list[int]]] = {}
    first: dict[tuple[str, str], int] = {}
    for index, case in enumerate(cases):
        first.setdefault((case.model.name, case.dataset.name), index)

    def place(index: int) -> tuple[int, bool]:
        case = cases[index]
        return first[case.model.name, case.dataset.name], case.precision != "fp32"

    for index in sorted(range(len(cases)), key=place):
        case = cases[index]
        divisions = groups.setdefault(case.group, {})
        divisions.setdefault(division(case, options, cores), []).append(index)
    return [
        index
        for divisions in groups.values()
        for indices in divisions.values()
        for index in indices
    ]


def sample_count(case: Case, options: Options, available: int, mode: str = "performance") -> int:
    """How many windows the case runs in a mode, of `available`.

    The scenarios give a sample to the same model, which answers as in Offline. So by default the
    other three answer fewer for accuracy: enough to show that what they do with samples is right.
    """
    if options.whole_dataset:
        return available
    wanted = options.dataset_size or case.dataset.quick_samples or available
    if mode == "accuracy" and options.dataset_size is None and case.scenario != "offline":
        wanted = min(int(wanted), QUICK_ANSWERS)
    return min(int(wanted), available)
