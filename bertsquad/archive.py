"""Results read back: from run folders, from folders that hold them, and from JSON files.

A JSON file is a `result.json`, what `--benchmark-json` writes, or a file of pytest-benchmark's
storage. Whatever is read has been checked, so that who shows it need not.
"""

import json
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bertsquad import summary
from bertsquad.comparison import differences
from bertsquad.errors import SuiteError
from bertsquad.loadgen import MODES, SCENARIOS
from bertsquad.results import FAILED, RESULT, SCHEMA_VERSION, SKIPPED, Result
from bertsquad.timeline import TIMELINE

#: No figure of a result is larger; what is comes from a damaged file, and would break a plot.
LARGEST = 1e18

#: The top-level lists of a JSON file that hold results, or cases without one.
_LISTS = ("accuracy", "compliance", "failures", "skipped")

#: What a result of each mode can't be shown without. Lists stand for "one of these".
_NEEDED: dict[str, tuple[tuple[str, ...], ...]] = {
    "accuracy": (("question_count",),),
    "performance": (("loadgen_valid",), ("qps", "latency_p90_ms"), ("target_source",)),
    "compliance": (("compliance_responses",), ("compliance_largest_difference",)),
}


@dataclass(frozen=True)
class Missing:
    """A case that gave no result by `at`: it failed, was broken off or was not run."""

    case: str
    mode: str
    verdict: str
    reason: str
    source: str
    at: datetime

    @property
    def row(self) -> dict[str, str]:
        """What `summary` makes lines of."""
        keys = ("case", "mode", "verdict", "reason")
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True)
class Series:
    """All runs of one case in one mode, oldest first; `alike` are those like the newest."""

    mode: str
    case: str
    runs: tuple[Result, ...]

    @property
    def newest(self) -> Result:
        """The run that is shown; the others are its history."""
        return self.runs[-1]

    @property
    def alike(self) -> tuple[Result, ...]:
        """The runs whose figures can be compared with the newest one's, it included."""
        new = self.newest.as_dict()
        return tuple(run for run in self.runs if not differences(new, run.as_dict()))


@dataclass
class Archive:
    """What was read: results without duplicates, cases without one, and files left out."""

    results: list[Result] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def series(self) -> list[Series]:
        """The results by case and mode, in the order in which a session runs them."""
        found: dict[tuple[str, str], list[Result]] = {}
        for result in sorted(self.results, key=started):
            found.setdefault((result.mode, result.case), []).append(result)
        return [Series(*key, tuple(runs)) for key, runs in sorted(found.items(), key=_place)]


def started(result: Result) -> datetime:
    """When the case was started."""
    return _time(result.provenance["started_at"])


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
    archive.results = list(_distinct(archive.results))
    archive.missing = _standing(archive)
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
    for place in sorted(run_folders):
        if (place / RESULT).is_file():
            _if_readable(place / RESULT, archive)
        else:
            archive.missing.append(_broken_off(place))
    for path in sorted(folder.rglob("*.json")):
        of_run = path.parent in run_folders or path.name.startswith("mlperf_log_")
        if path.is_file() and not of_run:
            _if_readable(path, archive, foreign=True)


def _if_readable(path: Path, archive: Archive, foreign: bool = False) -> None:
    """Read a file that nobody named; a `foreign` one may be anything at all."""
    try:
        _read_file(path, archive)
    except _NotOurs as error:
        if not foreign:
            archive.left_out.append(str(error))
    except SuiteError as error:
        archive.left_out.append(str(error))


class _NotOurs(SuiteError):
    """A whole file, but none of this suite."""


def _read_file(path: Path, archive: Archive) -> None:
    document = _clean(_load(path))
    if not isinstance(document, dict):
        raise _not_ours(path)
    if "schema_version" in document and "benchmarks" not in document:
        archive.results.append(_result(document, path))
        return
    benchmarks = document.get("benchmarks")
    if not isinstance(benchmarks, list):
        raise _not_ours(path)
    infos = [one.get("extra_info") for one in benchmarks if _is_map(one)]
    found = [one for one in infos if _is_map(one) and "schema_version" in one]
    lists = [document.get(key) for key in _LISTS]
    found += [one for part in lists if isinstance(part, list) for one in part]
    if not found:
        raise _NotOurs(f"{path} holds no results of this suite's cases")
    at = _written(document, path)
    missing = [_missing(one, path, at) for one in found if not _is_result(one)]
    archive.results += [_result(one, path) for one in found if _is_result(one)]
    archive.missing += missing


def _load(path: Path) -> Any:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SuiteError(f"{path} can't be read: {error.strerror or error}") from error
    if not content.strip():
        raise SuiteError(f"{path} is empty: run the case again")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        if content.lstrip()[:1] not in (b"{", b"["):
            raise _NotOurs(f"{path} is no JSON, as results of this suite are") from error
        raise SuiteError(f"{path} is cut short or damaged: its JSON isn't whole") from error


def _not_ours(path: Path) -> SuiteError:
    return _NotOurs(
        f"{path} is no result of this suite: expected a result.json or what --benchmark-json writes"
    )


def _broken_off(folder: Path) -> Missing:
    """What is left of a run folder whose run didn't end; its name says mode and case."""
    mode, _, case = folder.name.partition("-")
    if mode not in MODES or not case:
        mode, case = "run", folder.name
    reason = f"the run was broken off: there is no {RESULT}"
    return Missing(case, mode, FAILED, reason, str(folder), _changed(folder / TIMELINE))


def _missing(document: Any, path: Path, at: datetime) -> Missing:
    keys = ("case", "mode", "reason")
    if not _is_map(document) or not all(isinstance(document.get(key), str) for key in keys):
        raise SuiteError(f"{path} is damaged: a case in it has no name, mode and reason")
    verdict = SKIPPED if document.get("verdict") == SKIPPED else FAILED
    return Missing(document["case"], document["mode"], verdict, document["reason"], str(path), at)


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)


def _is_result(value: Any) -> bool:
    return _is_map(value) and "schema_version" in value


_HINTS = typing.get_type_hints(Result)
_REQUIRED = {"case", "mode", "verdict", "schema_version"}


def _result(document: Any, path: Path) -> Result:
    """A result whose every field has its type; keys that this version doesn't know are ignored."""
    if not _is_map(document) or not set(document) >= _REQUIRED:
        raise _not_ours(path)
    version = document["schema_version"]
    if version != SCHEMA_VERSION:
        raise SuiteError(
            f"{path} has schema version {version}, and this is a version of the suite that reads "
            f"{SCHEMA_VERSION}: run the case again"
        )
    what = f"{path} is damaged: in its result of {str(document['case'])[:100]}"
    known = {f.name: document[f.name] for f in fields(Result) if f.name in document}
    for name, value in known.items():
        if not _fits(value, _HINTS[name]):
            raise SuiteError(f"{what}, {name} is {str(value)[:60]!r}")
    try:
        result = Result(**known)
    except TypeError as error:
        raise SuiteError(f"{what}, fields are missing") from error
    if problem := _problem(result):
        raise SuiteError(f"{what}, {problem}")
    return result


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of JSON is what a field's annotation says, and finite."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return any(_fits(value, part) for part in parts)
    if origin is list:
        return isinstance(value, list) and all(_fits(one, parts[0]) for one in value)
    if origin is tuple:
        return (
            isinstance(value, (list, tuple))
            and len(value) == len(parts)
            and all(map(_fits, value, parts))
        )
    if origin is dict:
        return isinstance(value, dict)
    if hint is float:
        return _is_figure(value)
    if hint is int:
        return isinstance(value, int) and _is_figure(value)
    return isinstance(value, hint)


def _is_figure(value: Any) -> bool:
    """A number that can be drawn."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and abs(value) <= LARGEST  # which NaN isn't either
    )


def _problem(result: Result) -> str | None:
    """What keeps a result from being shown, whose fields all have their types; None if nothing."""
    if result.mode not in MODES:
        return f"mode is {result.mode[:60]!r}"
    if result.scenario not in SCENARIOS:
        return f"scenario is {result.scenario[:60]!r}"
    for names in _NEEDED[result.mode]:
        if all(getattr(result, name) is None for name in names):
            return f"no {' and no '.join(names)} is in it"
    if (result.f1 is None) != (result.exact_match is None):
        return "only one of f1 and exact_match is there"
    for key in ("started_at", "model_preparation"):
        if not isinstance(result.provenance.get(key), str):
            return f"provenance.{key} is missing"
    try:
        started(result)
    except (ValueError, OverflowError):
        return f"provenance.started_at is {result.provenance['started_at'][:60]!r}"
    if not _draws(result.timeline):
        return "the timeline isn't whole"
    row = result.as_dict()
    try:
        summary.table([row]), summary.remarks([row])
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return "figures contradict each other"
    return None


def _draws(timeline: dict[str, Any]) -> bool:
    """Whether a digest can be drawn, as far as it is there; older results have none."""
    latency, course = timeline.get("latency", {}), timeline.get("course", {})
    batches, off_by = timeline.get("batches", []), timeline.get("off_by_us")
    if not _is_map(latency) or not _is_map(course) or not isinstance(batches, list):
        return False
    lists = [latency.get("percentile", []), latency.get("ms", [])]
    speeds = [course.get("samples_per_s", []), course.get("tokens_per_s", [])]
    relative = course.get("relative_speed", [])
    for one in (*lists, *speeds, relative):
        if not isinstance(one, list) or not all(map(_is_figure, one)):
            return False
    wanted = ("samples", "count", "tokens", "padded_tokens")
    return (
        len(lists[0]) == len(lists[1])
        and len(speeds[0]) == len(speeds[1])
        and all(0 <= percentile < 100 for percentile in lists[0])
        and _is_figure(course.get("span_s", 0.0))
        and (off_by is None or _is_figure(off_by))
        and all(_is_map(one) and all(_is_figure(one.get(k)) for k in wanted) for one in batches)
    )


def _clean(value: Any) -> Any:
    """A JSON document whose texts can be written to any page: no surrogates, no control codes."""
    if isinstance(value, str):
        whole = value.encode("utf-8", "replace").decode("utf-8")
        return "".join(char for char in whole if char in "\n\t" or _is_shown(char))
    if isinstance(value, list):
        return [_clean(one) for one in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(one) for key, one in value.items()}
    return value


def _is_shown(char: str) -> bool:
    return not (ord(char) < 32 or 127 <= ord(char) < 160 or char in "\ufffe\uffff")


def _distinct(results: Iterable[Result]) -> Iterator[Result]:
    """Each run once: its folder and a JSON file may both have been named."""
    seen = set()
    for result in results:
        key = result.mode, result.case, started(result)
        if key not in seen:
            seen.add(key)
            yield result


def _standing(archive: Archive) -> list[Missing]:
    """The latest of each kind of a case and mode, unless a later run of it gave a result."""
    ran: dict[tuple[str, str], datetime] = {}
    for result in sorted(archive.results, key=started):
        ran[result.mode, result.case] = started(result)
    latest = {}
    for one in sorted(archive.missing, key=lambda one: one.at):
        if one.at >= ran.get((one.mode, one.case), one.at):
            latest[one.mode, one.case, one.verdict] = one
    return list(latest.values())


def _written(document: dict[str, Any], path: Path) -> datetime:
    """When a session ended, by its JSON, or by the file's own time where that doesn't say."""
    try:
        return _time(document["datetime"])
    except (LookupError, TypeError, ValueError, OverflowError):
        return _changed(path)


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _time(text: str) -> datetime:
    """A time as UTC, which one without a zone is taken for."""
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _place(item: tuple[tuple[str, str], list[Result]]) -> tuple[str, int, str, int]:
    """Where a series stands: by model and data set, then scenario, the rest of the case, mode."""
    newest = item[1][-1]
    scenario = list(SCENARIOS).index(newest.scenario)
    return (
        f"{newest.model} {newest.dataset}",
        scenario,
        newest.case,
        MODES.index(newest.mode),
    )
