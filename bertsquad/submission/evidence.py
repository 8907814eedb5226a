"""Finished runs, read back from their folders, and why they may not be submitted.

A run's figures are taken from LoadGen's own logs; `result.json` says which logs those are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertsquad import typed
from bertsquad.devices import PRECISIONS
from bertsquad.errors import SuiteError, printable
from bertsquad.loadgen import logs
from bertsquad.loadgen.logs import Run
from bertsquad.models.scales import Quantisation
from bertsquad.results.document import result_in
from bertsquad.results.result import RESULT, Result
from bertsquad.results.validity import objections
from bertsquad.rules import EDGE_SCENARIOS
from bertsquad.scenarios import SCENARIOS
from bertsquad.squad.datasets import DATASETS
from bertsquad.submission import hardware


class Refused(SuiteError):
    """The runs can't be submitted; each of `reasons` names a file, why, and what to do."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(map(printable, reasons))


@dataclass(frozen=True)
class Evidence:
    """One finished run: its folder, what `result.json` says and what LoadGen's detail log says.

    `quantisation` says how its model came to be int8; None for another precision.
    """

    folder: Path
    result: Result
    run: Run
    quantisation: Quantisation | None

    def file(self, name: str) -> Path:
        """A file of the run folder."""
        return self.folder / name


@dataclass(frozen=True)
class _Facts:
    """What a submission needs to know of the machine and the model that a run was made with."""

    log_checksums: dict[str, str]
    model_checksum: str
    dataset_checksum: str
    model_preparation: str
    model_input_type: str
    instances: int
    threads: int | None
    versions: dict[str, str]
    cpu: str
    cores: int
    physical_cores: int
    sockets: int
    gpus: list[str]
    memory_bytes: int
    operating_system: str
    suite_version: str
    git_revision: str | None
    command: str
    model_file: str
    provider_proof: str
    model_quantisation: Quantisation | None = None


def read_evidence(folder: Path) -> Evidence:
    """Read one run folder; SuiteError names the file that is missing, edited or of another run."""
    result = result_in(folder)
    if result.dataset not in DATASETS:
        raise SuiteError(
            f"{folder / RESULT} is of {result.dataset[:60]}, not of MLPerf's data: name the "
            "folders of the runs on squad alone"
        )
    if result.precision not in PRECISIONS:
        what = result.precision[:60]
        raise SuiteError(f"{folder / RESULT} is of {what}, a precision this version doesn't know")
    try:
        facts = typed.build(_Facts, result.provenance)
    except typed.Misfit as error:
        raise SuiteError(f"{folder / RESULT}: provenance.{error}: run the case again") from error
    if result.precision == "int8" and facts.model_quantisation is None:
        raise SuiteError(f"{folder / RESULT} has no model_quantisation: run the case again")
    for name in (logs.SUMMARY, logs.DETAIL, logs.ACCURACY):
        if not (folder / name).is_file():
            raise SuiteError(f"{folder / name} is missing: run the case again")
    for name, found in logs.checksums(folder).items():
        if found != facts.log_checksums.get(name):
            raise SuiteError(
                f"{folder / name} is not the log of this run (its sha256 is not the one in "
                f"{RESULT}), so it was edited, cut or mixed up: run the case again"
            )
    return Evidence(folder, result, logs.read_run(folder), facts.model_quantisation)


def find_evidence(folders: Sequence[Path]) -> list[Evidence]:
    """All runs in `folders`, which are run folders or output folders that hold some."""
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise SuiteError(f"there is no folder {folder}: name one that was given to --output")
        inside = [folder] if (folder / RESULT).is_file() else []
        inside += sorted(path.parent for path in folder.glob(f"*/{RESULT}"))
        if not inside:
            raise SuiteError(f"{folder} holds no finished run: name a folder given to --output")
        found += inside
    return [read_evidence(folder) for folder in dict.fromkeys(found)]


Chosen = Mapping[tuple[str, str], Evidence]


#: What the runs of one submission have in common, and the form in which `--session` takes it.
_GROUP = ("model", "dataset", "device", "precision")
GROUP_FORM = "-".join(_GROUP).upper()


def group_of(result: Result) -> str:
    """The group that a result belongs to, in the form of GROUP_FORM."""
    return "-".join(getattr(result, part) for part in _GROUP)


def choose(evidence: Sequence[Evidence], division: str, group: str | None) -> Chosen:
    """The runs to submit, by (scenario, mode), of the one group, or of the `group` named."""
    groups: dict[str, list[Evidence]] = {}
    for one in evidence:
        if one.result.scenario in EDGE_SCENARIOS:
            groups.setdefault(group_of(one.result), []).append(one)
    if not groups:
        raise SuiteError(
            f"expected runs of {' and '.join(EDGE_SCENARIOS)}, found none in the folders: run "
            'pytest benchmarks --rules mlperf --dataset squad -k "offline or singlestream"'
        )
    names = ", ".join(sorted(groups))
    if group is None and len(groups) != 1:
        raise SuiteError(f"the folders hold runs of {names}: choose one by --session {GROUP_FORM}")
    if group is not None and group not in groups:
        raise SuiteError(f"the folders hold no runs of {group}, but of {names}")
    wanted = group or next(iter(groups))
    chosen: dict[tuple[str, str], Evidence] = {}
    for one in groups[wanted]:
        key = one.result.scenario, one.result.mode
        if key in chosen:
            raise SuiteError(
                f"{one.folder} and {chosen[key].folder} are the same case: name one of them"
            )
        chosen[key] = one
    modes = ["accuracy", "performance", *(["compliance"] if division == "closed" else [])]
    missing = [
        f"no {mode} run of {scenario} for {wanted}: run pytest benchmarks --rules mlperf "
        f'--dataset squad -k "{scenario} and {mode}"'
        for scenario in EDGE_SCENARIOS
        for mode in modes
        if (scenario, mode) not in chosen
    ]
    if missing:
        raise Refused(missing)
    return {
        (scenario, mode): chosen[scenario, mode] for scenario in EDGE_SCENARIOS for mode in modes
    }


#: What to do about an objection, by its kind.
_CURES = {
    "log": "run the case again with this suite",
    "size": "run the case again under --rules mlperf --dataset squad",
    "system": "run the case again on a cluster that stays whole",
    "division": 'set division = "open", or run MLPerf\'s own model with its own target',
}


def refusals(evidence: Evidence, division: str, shortened: bool) -> Iterator[str]:
    """Why a run can't be submitted; its size is no reason if it may be `shortened`."""
    result = evidence.result
    forgiven = {"size"} if shortened else set()
    if division == "open":
        forgiven.add("division")
    for objection in objections(result, evidence.run):
        if objection.kind not in forgiven:
            yield f"{evidence.file(objection.file)}: {objection.reason}: {_CURES[objection.kind]}"
    if (why := hardware.unlike(result)) is not None:
        yield f"{evidence.file(RESULT)}: {why}: run the case again on nodes that are alike"
    if not shortened and (why := hardware.shared(result)) is not None:
        way = "run the case again on that machine without --cluster, or on nodes of their own"
        yield f"{evidence.file(RESULT)}: {why}: {way}"


def on_the_whole_system(chosen: Chosen) -> Evidence:
    """A run that all nodes of the system calculated, with all their GPUs."""
    return max(chosen.values(), key=lambda one: (one.result.number_of_nodes, len(_gpus(one))))


def _gpus(evidence: Evidence) -> tuple[str, ...]:
    """The GPUs that a run used on each node."""
    return hardware.of_nodes(evidence.result)[0].gpus


def mixed_up(chosen: Chosen) -> Iterator[str]:
    """Which runs were not made like the others, and with what difference.

    A scenario that has one query at a time runs on one node of a system, and its first GPU,
    whatever it has.
    """
    everywhere = (
        *("model_checksum", "dataset_checksum", "model_preparation", "versions"),
        *("suite_version", "git_revision"),
    )
    in_a_scenario = ("instances", "threads")  # each divides the cores in its own way
    first, whole = next(iter(chosen.values())), on_the_whole_system(chosen)
    for (scenario, _), evidence in chosen.items():
        own = next(one for (name, _), one in chosen.items() if name == scenario)
        for key in (*everywhere, *in_a_scenario):
            other = first if key in everywhere else own
            here, there = (one.result.provenance.get(key) for one in (evidence, other))
            if here != there:
                yield _mixed(evidence, key, here, there, other)
        for key, here, there in _unlike_machines(evidence, first):
            yield _mixed(evidence, key, here, there, first)
        count, system = (one.result.number_of_nodes for one in (evidence, whole))
        if count != system and not (count == 1 and SCENARIOS[scenario].one_at_a_time):
            yield _mixed(evidence, "number_of_nodes", count, system, whole)
        if _gpus(evidence) != _gpus(own):
            yield _mixed(evidence, "gpus", _gpus(evidence), _gpus(own), own)


def _unlike_machines(one: Evidence, other: Evidence) -> Iterator[tuple[str, object, object]]:
    """Where two runs were on unlike machines: what, here and there; of GPUs the first counts."""
    results = one.result, other.result
    if any(result.nodes for result in results):
        mine, others = (hardware.of_nodes(result)[0].with_first_gpu() for result in results)
        yield from mine.differences(others)
        return
    for key in ("cpu", "gpus", "memory_bytes"):  # to the byte, since it is one machine
        here, there = (result.provenance.get(key) for result in results)
        if key == "gpus" and here and there:
            here, there = here[:1], there[:1]
        if here != there:
            yield key, here, there


def _mixed(evidence: Evidence, key: str, here: object, there: object, other: Evidence) -> str:
    return (
        f"{evidence.file(RESULT)}: its {key} is {here}, but {there} in {other.file(RESULT)}: run "
        "both cases again on one system with one model"
    )
