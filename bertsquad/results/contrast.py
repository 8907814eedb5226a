"""Two sets of results, A and B, case by case: figures, what else differs, what isn't in both."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import geometric_mean
from typing import Any

from bertsquad.errors import SuiteError
from bertsquad.results import resampling
from bertsquad.results.archive import Archive, Series
from bertsquad.results.comparison import differences
from bertsquad.results.document import started
from bertsquad.results.figures import judged, plain
from bertsquad.results.machines import machine_of
from bertsquad.results.resampling import Ratio
from bertsquad.results.result import FAILED, Result
from bertsquad.results.words import word

#: In which order the modes of a case are shown.
_MODES = ("performance", "accuracy", "compliance")
#: What is seen of a figure.
FASTER, SLOWER, NO_DIFFERENCE = "faster", "slower", "no difference"
HIGHER, LOWER, EQUAL = "higher", "lower", "equal"
#: What is said instead of that: of other work no figure says who is faster, and what a system was
#: offered isn't what it can do.
UNLIKE, OFFERED = "unlike runs", "as offered"

#: What else than the provenance may differ though the runs are alike.
_SETTINGS = ("provider", "target_source", "accuracy_target", "reference_f1")
#: What of the provenance differs from run to run, or is told by something else.
_PASSED_OVER = frozenset(
    "started_at command working_folder environment log_checksums batches pinned_cpus gpu_ids given "
    "model_path dataset_path provider_proof versions_claimed model_rebuilt "
    "machine machine_id cpu cores model_checksum dataset_checksum tokeniser".split()
)


@dataclass(frozen=True)
class Change:
    """A figure of a case in A and in B.

    Of several runs of a side, `a` and `b` are the geometric mean. `ratio` is B over A; F1 has a
    `difference` instead, B - A in points. `seen` is None where no interval says anything.
    """

    case: str
    mode: str
    figure: str
    key: str
    unit: str
    a: float
    b: float
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    interval_of: str | None = None
    difference: float | None = None
    seen: str | None = None


@dataclass(frozen=True)
class Fact:
    """What differs between A and B besides figures, and the cases and modes in which it does."""

    fact: str
    a: Any
    b: Any
    where: tuple[str, ...]


@dataclass(frozen=True)
class Contrast:
    """All that is to be said of A and B.

    `common` are the cases and modes that both have; `unlike` why the figures of some can't be
    compared, with those cases; `only_a` and `only_b` those that one side lacks, and why.
    """

    changes: list[Change]
    common: list[str]
    facts: list[Fact]
    unlike: dict[str, list[str]]
    only_a: list[str]
    only_b: list[str]
    notes: list[str]


def contrast(a: Archive, b: Archive) -> Contrast:
    """Compare two sets of results; SuiteError where there is nothing to compare."""
    a, b, notes = _apart(a, b)
    newest = [_newest(one) for one in (a, b)]
    order = {case: n for n, case in enumerate(dict.fromkeys(case for _, case in newest[0]))}
    common = sorted(
        (place for place in newest[0] if place in newest[1]),
        key=lambda place: (order[place[1]], _MODES.index(place[0])),
    )
    if not common:
        raise SuiteError(
            f"A and B have no case in common: A has {_some(newest[0])}, B has {_some(newest[1])}"
        )
    changes: list[Change] = []
    facts: dict[str, tuple[Any, Any, list[str]]] = {}
    unlike: dict[str, list[str]] = {}
    for place in common:
        pair = newest[0][place], newest[1][place]
        one, other = (series.newest for series in pair)
        why = differences(vars(other), vars(one))
        for sentence in why:
            unlike.setdefault(sentence, []).append(_named(place))
        changes += _changes(*pair, bool(why))
        for fact, then, now in _facts(one, other):
            key = json.dumps([fact, then, now], default=str)
            facts.setdefault(key, (then, now, []))[2].append(_named(place))
    told = [
        Fact(json.loads(key)[0], then, now, tuple(where))
        for key, (then, now, where) in facts.items()
    ]
    only = [
        [_named(place) + _why(place, there) for place in mine if place not in others]
        for mine, others, there in ((newest[0], newest[1], b), (newest[1], newest[0], a))
    ]
    for name, side in (("A", a), ("B", b)):
        if (count := len({*map(machine_of, side.results)})) > 1:
            notes.append(f"{name} has runs of {count} machines: each case's newest are compared")
        notes += [
            f"{_named((lost.mode, lost.case))}: the latest run in {name} gave no result "
            f"({lost.reason}); what is shown is of the run before"
            for lost in side.missing
            if lost.verdict == FAILED and (lost.mode, lost.case) in common
        ]
    return Contrast(changes, list(map(_named, common)), told, unlike, only[0], only[1], notes)


_Place = tuple[str, str]  # mode and case


def _newest(archive: Archive) -> dict[_Place, Series]:
    """The series that has the newest run of each case and mode; runs are of one machine."""
    found: dict[_Place, Series] = {}
    for series in archive.series:
        place = series.mode, series.case
        if place not in found or started(found[place].newest) < started(series.newest):
            found[place] = series
    return found


def _apart(a: Archive, b: Archive) -> tuple[Archive, Archive, list[str]]:
    """Both without the runs that the other has too, and what is to be said of that.

    They are left out of A, as a history in which B's newest runs are; of B where A has no others.
    """
    both = {*map(_run, a.results)} & {*map(_run, b.results)}
    if not both:
        return a, b, []
    for name, side in (("A", a), ("B", b)):
        rest = [one for one in side.results if _run(one) not in both]
        if rest:
            left = Archive(rest, side.missing, side.left_out)
            note = f"{len(both):,} of the runs are in A and in B: they are left out of {name}"
            return (left, b, [note]) if side is a else (a, left, [note])
    raise SuiteError("A and B hold the same runs, so there is nothing to compare: name others")


def _run(result: Result) -> tuple[object, ...]:
    return result.mode, result.case, machine_of(result), started(result)


def _named(place: _Place) -> str:
    return f"{place[1]} ({place[0]})"


def _some(places: Mapping[_Place, object]) -> str:
    names = sorted(map(_named, places))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more if names else "no result"


def _why(place: _Place, there: Archive) -> str:
    """Why the other side lacks a case, where it says so."""
    said = [one for one in there.missing if (one.mode, one.case) == place]
    return f": {said[-1].verdict} there: {said[-1].reason}" if said else ""


def _changes(a: Series, b: Series, unlike: bool) -> Iterator[Change]:
    """The figures of a case that both have: the judged one, then the plain one beside it."""
    for of in (judged, plain):
        then, now = of(a.newest), of(b.newest)
        if then is None or now is None or then.value is None or now.value is None:
            continue
        if then.key != now.key or then.name != now.name:  # judged at another percentile
            continue
        name = f"{now.name} judged" if now.key == "mlperf_metric_value" else now.name
        mode, case = b.mode, b.case
        change = Change(case, mode, name, now.key, now.unit, then.value, now.value)
        if now.key == "f1":
            yield _of_f1(change, unlike)
        elif then.value and now.value:  # a ratio to 0 says nothing
            yield _of_time(change, a, b, now.higher_is_better, unlike)
        else:
            yield change


def _of_f1(change: Change, unlike: bool) -> Change:
    """F1 on the same questions differs or doesn't: nothing is drawn by chance."""
    apart = change.b - change.a
    seen = UNLIKE if unlike else EQUAL if not apart else HIGHER if apart > 0 else LOWER
    return replace(change, difference=apart, seen=seen)


def _of_time(change: Change, a: Series, b: Series, higher_is_better: bool, unlike: bool) -> Change:
    key = change.key
    values = [[value for run in side.alike if (value := getattr(run, key))] for side in (a, b)]
    counts = sorted(map(len, values))
    repeated = counts[0] > 1 or counts[1] > 2  # two runs beside one say next to nothing
    if not repeated:
        values = [some[-1:] for some in values]
    offered = key == "qps" and b.newest.scenario == "server"
    if repeated:
        found = resampling.of_runs(*values)
    elif offered:
        found = Ratio(change.b / change.a, None, None)
    else:
        found = resampling.of_one_run(a.newest, b.newest, key)
    seen = UNLIKE if unlike else OFFERED if offered else _seen(found, higher_is_better)
    then, now = (geometric_mean(some) if some[1:] else some[0] for some in values)
    told = replace(change, a=then, b=now, ratio=found.value, interval=found.interval)
    return replace(told, interval_of=found.of, seen=seen)


def _seen(ratio: Ratio, higher_is_better: bool) -> str | None:
    if ratio.interval is None:
        return None
    low, high = ratio.interval
    if low <= 1 <= high:
        return NO_DIFFERENCE
    return FASTER if (low > 1) == higher_is_better else SLOWER


def _facts(a: Result, b: Result) -> Iterator[tuple[str, Any, Any]]:
    """What differs between two runs: the machine, the verdict, and all that they say of how."""
    pairs = [
        ("machine", str(machine_of(a)), str(machine_of(b))),
        ("verdict", word(a).text, word(b).text),
        *((key, getattr(a, key), getattr(b, key)) for key in _SETTINGS),
        ("disturbed", bool(a.disturbances), bool(b.disturbances)),
    ]
    then, now = (dict(_flat(run.provenance)) for run in (a, b))
    pairs += [(key, then.get(key), now.get(key)) for key in {**then, **now}]
    yield from ((fact, old, new) for fact, old, new in pairs if old != new)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, one in facts.items():
        if not prefix and key in _PASSED_OVER:
            continue
        if isinstance(one, Mapping):
            yield from _flat(one, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", one


def where(names: Sequence[str], of: Sequence[str]) -> str:
    """In which cases something is so, in words: all of them, one or two by name, or how many."""
    if len(names) == len(of):
        return "all"
    return ", ".join(names) if len(names) < 3 else f"{len(names)} of {len(of)}, as {names[0]}"
