"""Reading a result from a JSON document, with every field checked."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from bertsquad import typed
from bertsquad.credentials import masked
from bertsquad.errors import SuiteError
from bertsquad.files import unreadable
from bertsquad.results.reference import SOURCES
from bertsquad.results.result import LATENCIES, RESULT, SCHEMA_VERSION, Result, of_document
from bertsquad.scenarios import MODES, SCENARIOS

#: What a result of each mode needs to be shown: of each tuple, one field at least.
_NEEDED: dict[str, tuple[tuple[str, ...], ...]] = {
    "accuracy": (("question_count",),),
    "performance": (("loadgen_valid",), ("qps", "latency_p90_ms"), ("target_source",)),
    "compliance": (("compliance_responses",), ("compliance_largest_difference",)),
}


def started(result: Result) -> datetime:
    """When the case was started."""
    return time_of(result.provenance["started_at"])


class NotOurs(SuiteError):
    """A file that is whole, but not of this suite."""


def load(path: Path) -> Any:
    """The JSON in a file; SuiteError, or NotOurs, where it holds none."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    if not content.strip():
        raise SuiteError(f"{path} is empty: run the case again")
    try:
        return _clean(typed.parse(content))
    except typed.NotJson as error:
        if content.lstrip()[:1] not in (b"{", b"["):
            raise NotOurs(f"{path} is no JSON, as results of this suite are") from error
        raise SuiteError(f"{path} is cut short or damaged: run the case again") from error


def not_ours(path: Path) -> SuiteError:
    """The error for a whole file that holds no result."""
    return NotOurs(
        f"{path} is no result of this suite: expected a result.json or what --benchmark-json writes"
    )


#: Figures beyond these come from a damaged file: all of them, and those of times and rates.
_LARGEST, _LEAST = 1e18, 1e-9
_MAY_BE_0 = ("qps", *(name for _, name in LATENCIES), "mlperf_metric_value")
_MEASURED = (*_MAY_BE_0, "run_time_s", "target_qps", "target_latency_ms")
#: These may be negative, and no others.
_SIGNED = (
    *("null_threshold", "best_null_threshold", "reference.difference", "reference.estimate"),
    *("gate.change", "gate.creep"),
)
#: What no page can show: control codes other than tab and line feed, and two codes that are
#: no characters.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]")
_REQUIRED = {"case", "mode", "verdict", "schema_version"}


def result_of(document: Any, path: Path) -> Result:
    """A result whose every field has its type; keys that this version doesn't know are ignored."""
    if not isinstance(document, dict) or not set(document) >= _REQUIRED:
        raise not_ours(path)
    version = document["schema_version"]
    if version != SCHEMA_VERSION:
        raise SuiteError(
            f"{path} has schema version {version!r:.60}, and this is a version of the suite that "
            f"reads {SCHEMA_VERSION}: run the case again"
        )
    what = f"{path} is damaged: in its result of {str(document['case'])[:100]}"
    try:
        result = of_document(document)
    except typed.Misfit as error:
        raise SuiteError(f"{what}, {error}; run the case again") from error
    if problem := _problem(result):
        raise SuiteError(f"{what}, {problem}; run the case again")
    return result


def result_in(folder: Path) -> Result:
    """The result in a run folder; SuiteError says what is wrong with its `result.json`."""
    path = folder / RESULT
    return result_of(load(path), path)


def _problem(result: Result) -> str | None:
    """Why a result whose fields all have their types still can't be shown; None if it can."""
    if result.mode not in MODES:
        return f"mode is {result.mode[:60]!r}"
    if result.scenario not in SCENARIOS:
        return f"scenario is {result.scenario[:60]!r}"
    for name, value in _numbers(result):
        least = _LEAST if name in _MEASURED else -_LARGEST if name in _SIGNED else 0
        if not (_is_figure(value) and value >= least) and not (name in _MAY_BE_0 and value == 0):
            return f"{name} is {str(value)[:60]}"
    for key, value in result.settings.items():  # as LoadGen holds them, in 64 bits
        most = 100 if key == "target_latency_percentile" else 2**64
        if not 0 <= value < most or (value == 0 and most == 100):
            return f"settings.{key[:60]} is {str(value)[:60]}"
    if result.reference is not None and result.reference.source not in SOURCES:
        return f"reference.source is {result.reference.source[:60]!r}"
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
    if result.number_of_nodes != max(1, len(result.nodes)):
        return f"number_of_nodes is {result.number_of_nodes}, but nodes has {len(result.nodes)}"
    spans = len(result.timeline.get("course", {}).get("samples_per_s", []))
    if any(len(node.samples_per_s) not in (0, spans) for node in result.nodes):
        return "nodes.samples_per_s has other spans than the timeline's course"
    return None


def _numbers(result: Result) -> Iterator[tuple[str, Any]]:
    """The numbers of a result with the names of their fields, provenance and timeline left out."""
    for name, value in vars(result).items():
        parts = value if isinstance(value, tuple) else [value]
        yield from ((name, one) for one in parts if type(one) in (int, float))
    for cause in result.invalid_causes:
        yield from ((name, one) for name, one in vars(cause).items() if type(one) is int)
    for name, some in (
        ("nodes", result.nodes),
        ("nodes_lost", result.nodes_lost),
        ("gate", filter(None, [result.gate])),
        ("reference", filter(None, [result.reference])),
        ("reference.first", result.reference.first if result.reference else []),
    ):
        for key, value in ((key, value) for one in some for key, value in vars(one).items()):
            rates = value if key == "samples_per_s" else [value]
            yield from ((f"{name}.{key}", one) for one in rates if type(one) in (int, float))


def _is_figure(value: Any) -> bool:
    """Whether a value of JSON is a number that can be drawn."""
    return type(value) in (int, float) and abs(value) <= _LARGEST  # which NaN isn't either


def _draws(timeline: dict[str, Any]) -> bool:
    """Whether a timeline's digest can be drawn; older results have none or a part of one."""
    latency, course = timeline.get("latency", {}), timeline.get("course", {})
    batches, off_by = timeline.get("batches", []), timeline.get("off_by_us")
    if not (isinstance(latency, dict) and isinstance(course, dict) and isinstance(batches, list)):
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
        and _is_figure(course.get("span_s", None if speeds[0] else 0.0))
        and (off_by is None or _is_figure(off_by))
        and all(
            isinstance(one, dict) and all(_is_figure(one.get(k)) for k in wanted) for one in batches
        )
    )


@lru_cache(maxsize=1000)
def _clean_text(text: str) -> str:
    return masked(_UNSHOWN.sub("", text.encode("utf-8", "replace").decode("utf-8")))


def _clean(value: Any) -> Any:
    """A JSON document as any page can hold it.

    It has no surrogates and control codes, and no credentials in URLs, which older versions wrote.
    """
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, list):
        numbers = {*map(type, value)} <= {int, float}  # as the long lists of a timeline are
        return value if numbers else [_clean(one) for one in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(one) for key, one in value.items()}
    return value


def time_of(text: str) -> datetime:
    """A time as UTC; without a zone it is taken as UTC."""
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
