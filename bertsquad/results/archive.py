"""Results read back: from run folders, from folders that hold them, and from JSON files.

A JSON file is a `result.json`, what `--benchmark-json` writes, or a file of pytest-benchmark's
storage. All that is read is checked here, so that nothing that shows it has to.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import Any

from bertsquad.errors import SuiteError, printable
from bertsquad.loadgen.timeline import TIMELINE
from bertsquad.results import document, names
from bertsquad.results.comparison import differences
from bertsquad.results.machines import Machine, machine_of
from bertsquad.results.result import FAILED, RESULT, SKIPPED, Missing, Result
from bertsquad.results.run_folder import case_of
from bertsquad.scenarios import MODES

#: The top-level lists of a JSON file that hold results, or cases without one.
_LISTS = ("accuracy", "compliance", "failures", "skipped")


@dataclass(frozen=True)
class Lost(Missing):
    """A case without a result, and where that was read: its file or folder, and when that ended.

    `machine` is that of the results beside it, None where there are none or of several.
    """

    source: str
    at: datetime
    machine: Machine | None = None


@dataclass(frozen=True)
class Series:
    """All runs of one case in one mode on one machine, oldest first."""

    mode: str
    case: str
    machine: Machine
    runs: tuple[Result, ...]

    @property
    def newest(self) -> Result:
        """The run that is shown; the others are its history."""
        return self.runs[-1]

    @cached_property
    def comparable(self) -> tuple[bool, ...]:
        """For each run: whether its figures can be compared with the newest one's."""
        # vars, since as_dict copies whole timelines, of which nothing is compared.
        new = vars(self.newest)
        return tuple(not differences(new, vars(run)) for run in self.runs)

    @property
    def alike(self) -> tuple[Result, ...]:
        """The runs whose figures can be compared with the newest one's, it included."""
        return tuple(compress(self.runs, self.comparable))


@dataclass
class Archive:
    """What was read: results without duplicates, cases without one, and files left out."""

    results: list[Result] = field(default_factory=list)
    missing: list[Lost] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def series(self) -> list[Series]:
        """The results by case, machine and mode, in the order of a pytest session."""
        found: dict[tuple[str, str, Machine], list[Result]] = {}
        for result in sorted(self.results, key=document.started):
            key = result.mode, result.case, machine_of(result)
            found.setdefault(key, []).append(result)
        return [Series(*key, tuple(found[key])) for key in sorted(found, key=_place)]

    @property
    def machines(self) -> list[Machine]:
        """The machines that the results are of."""
        return list(dict.fromkeys(map(machine_of, self.results)))

    def of(self, text: str) -> "Archive":
        """What is of the cases whose names contain a text; `left_out` counts the others.

        SuiteError where there is none.
        """
        names = {*(one.case for one in self.results), *(one.case for one in self.missing)}
        others = sorted(name for name in names if text not in name)
        if len(others) == len(names):
            more = f" and {len(others) - 5} more" if len(others) > 5 else ""
            raise SuiteError(
                f"expected cases whose names contain {text!r}, found "
                f"{', '.join(others[:5])}{more}: give a part of one of these"
            )
        count = f"{len(others)} case{'' if len(others) == 1 else 's'}"
        said = [f"{count} without {text!r} in the name"] if others else []
        return Archive(
            [one for one in self.results if text in one.case],
            [one for one in self.missing if text in one.case],
            self.left_out + said,
        )


def read(sources: Sequence[Path]) -> Archive:
    """Read everything in files and folders.

    Raises SuiteError for a file that was named and can't be read, and where nothing is found.
    What merely lies in a folder and can't be read is left out, and `left_out` says why.
    """
    archive = Archive()
    for source in sources:
        if source.is_dir():
            _read_folder(source, archive)
        else:
            _read_file(source, archive)
    archive.results = list(distinct(archive.results))
    archive.missing = _still_missing(archive)
    if not archive.results and not archive.missing:
        problem = archive.left_out[0] if archive.left_out else None
        named = ", ".join(map(str, sources))
        raise SuiteError(
            problem or f"{named}: expected results of this suite (run folders or JSON), found none"
        )
    return archive


def _read_folder(folder: Path, archive: Archive) -> None:
    """Read the run folders and JSON files in and under a folder."""
    run_folders = {path.parent for name in (RESULT, TIMELINE) for path in folder.rglob(name)}
    beside: dict[Path, list[Result]] = {}
    for place in sorted(run_folders):
        if (place / RESULT).is_file():
            known = len(archive.results)
            _if_readable(place / RESULT, archive)
            beside.setdefault(place.parent, []).extend(archive.results[known:])
    for place in sorted(run_folders):
        if not (place / RESULT).is_file() and (place / TIMELINE).is_file():
            archive.missing.append(_broken_off(place, beside.get(place.parent, [])))
    for path in sorted(folder.rglob("*.json")):
        of_run = path.parent in run_folders or path.name.startswith("mlperf_log_")
        if path.is_file() and not of_run:
            _if_readable(path, archive, foreign=True)


def _if_readable(path: Path, archive: Archive, foreign: bool = False) -> None:
    """Read a file that lies in a folder; a `foreign` one need not be of this suite."""
    try:
        _read_file(path, archive)
    except document.NotOurs as error:
        if not foreign:
            archive.left_out.append(str(error))
    except SuiteError as error:
        archive.left_out.append(str(error))


def _read_file(path: Path, archive: Archive) -> None:
    whole = document.load(path)
    if not isinstance(whole, dict):
        raise document.not_ours(path)
    if "schema_version" in whole and "benchmarks" not in whole:
        archive.results.append(document.result_of(whole, path))
        return
    benchmarks = whole.get("benchmarks")
    if not isinstance(benchmarks, list):
        raise document.not_ours(path)
    infos = [one.get("extra_info") for one in benchmarks if isinstance(one, dict)]
    found = [info for info in infos if isinstance(info, dict) and "schema_version" in info]
    for name in _LISTS:
        found += whole[name] if isinstance(whole.get(name), list) else []
    if not found:
        raise document.NotOurs(f"{path} holds no results of this suite's cases")
    at = _written(whole, path)
    results, others = [], []
    for one in found:
        if isinstance(one, dict) and "schema_version" in one:
            results.append(document.result_of(one, path))
        else:
            others.append(one)
    missing = [_missing(one, path, at, results) for one in others]
    archive.results += results
    archive.missing += missing


def _broken_off(folder: Path, beside: Sequence[Result]) -> Lost:
    """What is left of a run folder whose run didn't end; its name says mode and case."""
    name = case_of(folder)
    mode, _, case = name.partition("-")
    if mode not in MODES or not case:
        mode, case = "run", name
    reason = f"the run was broken off: there is no {RESULT}"
    name, source = printable(case), printable(str(folder))
    at = _changed(folder / TIMELINE)
    return Lost(name, mode, FAILED, reason, source, at, _one_machine(beside))


def _missing(value: Any, path: Path, at: datetime, beside: Sequence[Result]) -> Lost:
    keys = ("case", "mode", "reason")
    if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in keys):
        raise SuiteError(f"{path} is damaged: a case in it has no name, mode and reason")
    verdict = SKIPPED if value.get("verdict") == SKIPPED else FAILED
    source = printable(str(path))
    case, mode, reason = (value[key] for key in keys)
    return Lost(case, mode, verdict, reason, source, at, _one_machine(beside))


def _one_machine(results: Sequence[Result]) -> Machine | None:
    """The machine that all of some results are of."""
    machines = {*map(machine_of, results)}
    return machines.pop() if len(machines) == 1 else None


def distinct(results: Iterable[Result]) -> Iterator[Result]:
    """Each run once: its folder and a JSON file may both have been named."""
    seen = set()
    for result in results:
        key = result.mode, result.case, machine_of(result), document.started(result)
        if key not in seen:
            seen.add(key)
            yield result


def _still_missing(archive: Archive) -> list[Lost]:
    """The cases whose latest run gave no result: one for each case, mode, verdict and machine.

    A case that was skipped is so wherever it was; a run of a machine that isn't known may be any's.
    """
    ran: dict[tuple[str, str, Machine | None], datetime] = {}
    for result in sorted(archive.results, key=document.started):
        for machine in (machine_of(result), None):
            ran[result.mode, result.case, machine] = document.started(result)
    latest = {}
    for one in sorted(archive.missing, key=lambda one: one.at):
        machine = one.machine if one.verdict == FAILED else None
        if one.at >= ran.get((one.mode, one.case, machine), one.at):
            latest[one.mode, one.case, one.verdict, machine] = one
    return list(latest.values())


def _written(whole: dict[str, Any], path: Path) -> datetime:
    """When a pytest session ended, by its JSON, or else by the time of the file."""
    try:
        return document.time_of(whole["datetime"])
    except (LookupError, TypeError, ValueError, OverflowError):
        return _changed(path)


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _place(key: tuple[str, str, Machine]) -> tuple[object, ...]:
    """The key that series are sorted by: model and data set, scenario, case, machine, mode."""
    mode, case, machine = key
    *of_case, of_mode = names.place(case, mode)
    return *of_case, str(machine), machine.identity, of_mode
