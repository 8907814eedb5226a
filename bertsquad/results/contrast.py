"""Two sets of results, A and B, case by case: figures, what else differs, what isn't in both."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import geometric_mean
from typing import Any

from bertsquad.errors import SuiteError
from bertsquad.results import names, resampling
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

#: What may differ between cases that are compared though no case is in both, by what a user sets
#: side by side: the least of it first. The speed of another model is that of other work.
_FREE = (
    *(("precision",), ("device",), ("device", "precision")),
    *(("model",), ("model", "precision"), ("model", "device"), ("model", "device", "precision")),
)
#: What a case is made of.
_PARTS = ("model", "dataset", "scenario", "device", "precision")
#: That of it which is no other work.
_ALIKE = ("device", "precision")

#: What else than the provenance may differ though the runs are alike.
_SETTINGS = (
    *("model", "device", "precision"),
    *("provider", "target_source", "accuracy_target", "reference_f1"),
)
#: What of the provenance differs from run to run, or is told by something else, as the parts of a
#: quantisation are by `model_preparation`.
_PASSED_OVER = frozenset(
    "started_at command working_folder environment log_checksums batches pinned_cpus gpu_ids given "
    "model_path dataset_path provider_proof versions_claimed model_rebuilt "
    "machine machine_id cpu cores model_checksum dataset_checksum tokeniser "
    "model_quantisation".split()
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

    `common` are the cases and modes that are compared: those that both have, or where there is
    none, those that differ alike, with `*` for what differs. `unlike` is why the figures of some
    can't be compared, with those cases; `only_a` and `only_b` what one side lacks, and why.
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
    pairs, free = _paired(*newest)
    if free:
        notes.append(f"no case is in A and in B, so those are compared that differ in {_and(free)}")
    order = {case: n for n, case in enumerate(dict.fromkeys(case for _, case in newest[0]))}
    pairs.sort(key=lambda pair: (order[pair[0][1]], _MODES.index(pair[0][0])))
    common = [(one[0], names.pattern([one[1], other[1]])) for one, other in pairs]
    changes: list[Change] = []
    facts: dict[str, tuple[Any, Any, list[str]]] = {}
    unlike: dict[str, list[str]] = {}
    for place, (there, here) in zip(common, pairs, strict=True):
        pair = newest[0][there], newest[1][here]
        one, other = (series.newest for series in pair)
        alike = {key: getattr(one, key) for key in free if key in _ALIKE}
        why = differences(vars(other) | alike, vars(one))
        for sentence in why:
            unlike.setdefault(sentence, []).append(_named(place))
        changes += _changes(place[1], *pair, bool(why))
        for fact, then, now in _facts(one, other):
            key = json.dumps([fact, then, now], default=str)
            facts.setdefault(key, (then, now, []))[2].append(_named(place))
    told = [
        Fact(json.loads(key)[0], then, now, tuple(where))
        for key, (then, now, where) in facts.items()
    ]
    compared = [{one for one, _ in pairs}, {other for _, other in pairs}]
    only = [
        [_named(place) + _why(place, there) for place in mine if place not in done]
        for mine, done, there in zip(newest, compared, (b, a), strict=True)
    ]
    for name, side, done in zip("AB", (a, b), compared, strict=True):
        if (count := len({*map(machine_of, side.results)})) > 1:
            notes.append(f"{name} has runs of {count} machines: each case's newest are compared")
        notes += [
            f"{_named((lost.mode, lost.case))}: the latest run in {name} gave no result "
            f"({lost.reason}); what is shown is of the run before"
            for lost in side.missing
            if lost.verdict == FAILED and (lost.mode, lost.case) in done
        ]
    return Contrast(changes, list(map(_named, common)), told, unlike, only[0], only[1], notes)


_Place = tuple[str, str]  # mode and case


def _paired(
    a: Mapping[_Place, Series], b: Mapping[_Place, Series]
) -> tuple[list[tuple[_Place, _Place]], tuple[str, ...]]:
    """Which case of A is compared with which of B, and what may differ between the two.

    It is the same one, or where no case is in both, the only one that is the same but for as little
    as possible. SuiteError where there is none, or several would do.
    """
    if common := [(place, place) for place in a if place in b]:
        return common, ()
    for free in _FREE:
        sides = [_by_rest(side, free) for side in (a, b)]
        rests = [rest for rest in sides[0] if rest in sides[1]]
        if any(len(side[rest]) > 1 for side in sides for rest in rests):
            raise SuiteError(
                f"A and B have no case in common, and more than one that differs in {_and(free)}: "
                f"A has {_some(a)}, B has {_some(b)}: choose with --case-a and --case-b"
            )
        if rests:
            return [(sides[0][rest][0], sides[1][rest][0]) for rest in rests], free
    raise SuiteError(f"A and B have no case in common: A has {_some(a)}, B has {_some(b)}")


def _by_rest(
    side: Mapping[_Place, Series], free: Sequence[str]
) -> dict[tuple[object, ...], list[_Place]]:
    """The cases by what is the same in those that differ in some of their parts."""
    found: dict[tuple[object, ...], list[_Place]] = {}
    for place, series in side.items():
        kept = [getattr(series.newest, key) for key in _PARTS if key not in free]
        found.setdefault((place[0], *kept), []).append(place)
    return found


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


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
    found = sorted(map(_named, places))
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more if found else "no result"


def _why(place: _Place, there: Archive) -> str:
    """Why the other side lacks a case, where it says so."""
    said = [one for one in there.missing if (one.mode, one.case) == place]
    return f": {said[-1].verdict} there: {said[-1].reason}" if said else ""


def _changes(case: str, a: Series, b: Series, unlike: bool) -> Iterator[Change]:
    """The figures of a case that both have: the judged one, then the plain one beside it."""
    for of in (judged, plain):
        then, now = of(a.newest), of(b.newest)
        if then is None or now is None or then.value is None or now.value is None:
            continue
        if then.key != now.key or then.name != now.name:  # judged at another percentile
            continue
        name = f"{now.name} judged" if now.key == "mlperf_metric_value" else now.name
        change = Change(case, b.mode, name, now.key, now.unit, then.value, now.value)
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


def where(places: Sequence[str], of: Sequence[str]) -> str:
    """In which cases something is so, in words: all of them, one or two by name, or how many."""
    if len(places) == len(of):
        return "all"
    return ", ".join(places) if len(places) < 3 else f"{len(places)} of {len(of)}, as {places[0]}"
