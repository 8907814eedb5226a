"""Earlier results as a baseline for a new one: which of them are, and which figure is compared."""

from collections.abc import Sequence
from dataclasses import replace

from bertsquad.results import figures, gate
from bertsquad.results.comparison import differences
from bertsquad.results.document import started
from bertsquad.results.gate import GateVerdict, Measure
from bertsquad.results.machines import machine_of
from bertsquad.results.result import Result

#: How many differences to an earlier run are told.
_TOLD = 2


def measure(result: Result) -> Measure | None:
    """What of a result is compared; None where there is nothing, as of a compliance run.

    In Server with a given rate that is the 99th percentile, else the figure that MLPerf judges: a
    rate that a probe found is what the machine could keep. A stream with too few queries for
    MLPerf's figure has the plain percentile.
    """
    judged, plain = figures.judged(result), figures.plain(result)
    if judged is None:
        return None
    offered = result.scenario == "server" and result.target_source != "probe"
    if plain is not None and (offered or judged.value is None):
        judged = plain
    value = _value(result, judged.key)
    if value is None:
        return None
    least = 0.0
    if judged.key == "f1":
        least = max(gate.F1_POINTS, 100 / (result.question_count or 1))
    return Measure(judged.key, judged.name, value, judged.higher_is_better, least)


def _value(result: Result, key: str) -> float | None:
    """A figure of a result; None where there is none, as where a rate or a latency is 0."""
    value: float | None = getattr(result, key)
    return value if value or key == "f1" else None


def is_good(result: Result) -> bool:
    """Whether a run may be part of a baseline: it passed, and nothing disturbed it."""
    return (
        result.failure is None
        and not result.disturbances
        and not result.nodes_lost
        and not any(cause.kind == "error" for cause in result.invalid_causes)
        and not _has_missed_its_bound(result)
    )


def _has_missed_its_bound(result: Result) -> bool:
    """Whether a rate of Server that a probe found is none that the machine could keep."""
    missed = any(cause.kind == "latency_bound" for cause in result.invalid_causes)
    return result.target_source == "probe" and missed


def judge(
    result: Result, history: Sequence[Result], band: float, accept: bool = False
) -> GateVerdict | None:
    """The verdict on a result by earlier ones of any case; None where nothing of it is compared.

    With `accept` it is the first of a new baseline, however it compares.
    """
    new = measure(result)
    if new is None:
        return None
    same = [one for one in history if (one.mode, one.case) == (result.mode, result.case)]
    before = _alike(result, sorted(same, key=started))
    runs = [one for one in before if is_good(one)]
    good = [value for one in runs if (value := _value(one, new.key)) is not None]
    last = next((one.gate for one in reversed(before) if one.gate is not None), None)
    failed_last = last is not None and last.failed
    if last is not None and last.failed and last.figure == new.key:
        count = min(last.runs, gate.RUNS)
        if last.baseline is not None and (last.baseline > 0 or new.in_points) and count > len(good):
            good = [last.baseline] * count  # its runs are no more among those that were read
    verdict = gate.decide(new, good, band, failed_last)
    if verdict.verdict == gate.NO_BASELINE and same:
        verdict = replace(verdict, reason=f"{verdict.reason}: {_why_none(result, same, before)}")
    unkept = [one for one in before if one.failure is None and _has_missed_its_bound(one)]
    if _has_missed_its_bound(result) and len(good) > len(unkept):
        reason = (
            f"gate: the bound was missed at the rate that the probe found, {new.value:.5g} QPS; "
            f"{_runs(len(good))} kept theirs"
        )
        verdict = replace(verdict, verdict=gate.FAILED, reason=reason)
    return replace(verdict, verdict=gate.ACCEPTED) if accept else verdict


def _why_none(result: Result, same: Sequence[Result], before: Sequence[Result]) -> str:
    """Why none of the earlier runs of a case, of which `before` are alike, is a baseline."""
    if before:
        return f"of {_runs(len(before), 'earlier')} none passed undisturbed"
    newest = max(same, key=started)
    if all(machine_of(one) != machine_of(result) for one in same):
        return (
            f"{_runs(len(same), 'earlier')} of it on other machines, the last on "
            f"{machine_of(newest)} (BERTSQUAD_MACHINE names one whose containers are made anew)"
        )
    here = max((one for one in same if machine_of(one) == machine_of(result)), key=started)
    unlike = "; ".join(differences(vars(result), vars(here))[:_TOLD])
    return f"{_runs(len(same), 'earlier')} of it not alike, of the last here {unlike}"


def _runs(count: int, kind: str = "good") -> str:
    return f"{count} {kind} run{'' if count == 1 else 's'}"


def _alike(result: Result, same: Sequence[Result]) -> list[Result]:
    """Those of a case's earlier runs that were on the same machine with the same settings.

    They are given oldest first. What was before the last one that was accepted has no part in it.
    """
    machine, new = machine_of(result), vars(result)
    found = [one for one in same if machine_of(one) == machine and not differences(new, vars(one))]
    accepted = [
        at for at, one in enumerate(found) if one.gate and one.gate.verdict == gate.ACCEPTED
    ]
    return found[accepted[-1] :] if accepted else found
