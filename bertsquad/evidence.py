"""Finished runs as evidence: read back from their folders, and doubted.

What is said here of a run comes from LoadGen's own logs; `result.json` says which logs those are.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertsquad import loadgen
from bertsquad.errors import SuiteError
from bertsquad.loadgen import SCENARIOS, Run
from bertsquad.results import RESULT, SCHEMA_VERSION, Result
from bertsquad.rules import EDGE_SCENARIOS, MIN_DURATION_S, ROUND, SAMPLES, SEEDS, TEST01


class Refused(SuiteError):
    """The runs can't be submitted; `reasons` say which file is wrong, why, and what to do."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = tuple(reasons)


@dataclass(frozen=True)
class Evidence:
    """One finished run: its folder, what `result.json` says and what LoadGen's detail log says."""

    folder: Path
    result: Result
    run: Run

    def file(self, name: str) -> Path:
        """A file of the run folder."""
        return self.folder / name


def read_evidence(folder: Path) -> Evidence:
    """Read one run folder; SuiteError names the file that is missing, foreign or edited."""
    path = folder / RESULT
    try:
        document = json.loads(path.read_bytes())
        if document["schema_version"] != SCHEMA_VERSION:
            raise SuiteError(
                f"{path} has schema version {document['schema_version']}, not {SCHEMA_VERSION}: "
                "run the case again"
            )
        result = Result(**document)
        recorded = dict(result.provenance["log_checksums"])
    except OSError as error:
        raise SuiteError(f"{path} can't be read: {error.strerror}; run the case again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SuiteError(f"{path} is not a whole result.json: run the case again") from error
    for name in recorded:
        if not (folder / name).is_file():
            raise SuiteError(f"{folder / name} is missing: run the case again")
    for name, found in loadgen.log_checksums(folder).items():
        if found != recorded.get(name):
            raise SuiteError(
                f"{folder / name} is not the log of this run (its sha256 is not the one in "
                f"{RESULT}), so it was edited, cut or mixed up: run the case again"
            )
    return Evidence(folder, result, loadgen.read_run(folder))


def find_evidence(folders: Sequence[Path]) -> list[Evidence]:
    """All runs in `folders` (run folders, or output folders that hold some)."""
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise SuiteError(f"there is no folder {folder}")
        inside = [folder] if (folder / RESULT).is_file() else []
        inside += sorted(path.parent for path in folder.glob(f"*/{RESULT}"))
        if not inside:
            raise SuiteError(f"{folder} holds no finished run (no {RESULT})")
        found += inside
    return [read_evidence(folder) for folder in dict.fromkeys(found)]


Chosen = Mapping[tuple[str, str], Evidence]


def choose(evidence: Sequence[Evidence], division: str, session: str | None) -> Chosen:
    """The runs to submit, by (scenario, mode).

    `session` is `model-device-precision`, needed where the folders hold more than one such.
    """
    sessions = {
        f"{e.result.model}-{e.result.device}-{e.result.precision}": e
        for e in evidence
        if e.result.scenario in EDGE_SCENARIOS
    }
    if session is None and len(sessions) != 1:
        raise SuiteError(
            f"the folders hold runs of {', '.join(sorted(sessions)) or 'no scenario of the edge'} "
            "suite: choose one by --session MODEL-DEVICE-PRECISION"
        )
    wanted = session or next(iter(sessions))
    chosen = {
        (e.result.scenario, e.result.mode): e
        for e in evidence
        if f"{e.result.model}-{e.result.device}-{e.result.precision}" == wanted
    }
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


def objections(evidence: Evidence, shortened: bool) -> Iterator[str]:
    """Why a run can't be submitted; `shortened` passes over size, duration and validity."""
    log = evidence.file(loadgen.DETAIL)
    result, values = evidence.result, evidence.run.values
    scenario = SCENARIOS[result.scenario]
    modes = {"accuracy": "AccuracyOnly"}
    expected: dict[str, object] = {
        "effective_scenario": scenario.loadgen_name,
        "effective_test_mode": modes.get(result.mode, "PerformanceOnly"),
        **SEEDS,
    }
    if result.mode == "compliance":
        expected["effective_accuracy_log_rng_seed"] = TEST01.accuracy_log_rng_seed
    for key, value in expected.items():
        if values.get(key) != value:
            yield (
                f"{log}: {key} is {values.get(key)}, but {ROUND} wants {value}: run the case "
                "again with this suite's LoadGen"
            )
    for error in evidence.run.errors:
        yield f"{log} reports an error ({error}): run the case again"
    if shortened:
        return
    again = "run the case again under --rules mlperf"
    if result.rules != "mlperf":
        yield f"{evidence.file(RESULT)}: made under --rules {result.rules}: {again}"
    if result.dataset != "squad":
        yield f"{evidence.file(RESULT)}: made on {result.dataset}: {again} --dataset squad"
    if result.mode == "accuracy":
        count = values.get("effective_accuracy_sample_count")
        if count != SAMPLES:
            yield f"{log}: {count} samples were answered, not all {SAMPLES}: {again}"
        return
    if not evidence.run.valid:
        reasons = "; ".join(evidence.run.invalid_reasons)
        yield f"{log}: LoadGen calls the run INVALID ({reasons}): {again}"
    shortest = values.get("effective_min_duration_ms", 0)
    if shortest < MIN_DURATION_S * 1000:
        yield f"{log}: asked to last {shortest} ms, not {MIN_DURATION_S * 1000:.0f}: {again}"
    if values.get("effective_performance_sample_count", 0) < SAMPLES:
        yield f"{log}: drawn from fewer than {SAMPLES} samples: {again}, without --buffer-size"
    if result.scenario == "offline" and values.get("effective_samples_per_query", 0) < SAMPLES:
        yield f"{log}: its query has fewer than {SAMPLES} samples: {again}"


def mixed_up(chosen: Chosen) -> Iterator[str]:
    """Where runs that must belong together don't."""
    first = next(iter(chosen.values()))
    keys = ("model_checksum", "dataset_checksum", "cpu", "threads", "memory_bytes")
    for evidence in chosen.values():
        for key in keys:
            here, there = evidence.result.provenance.get(key), first.result.provenance.get(key)
            if here != there:
                yield (
                    f"{evidence.file(RESULT)}: its {key} is {here}, but {there} in "
                    f"{first.file(RESULT)}: run both cases again on one machine with one model"
                )
