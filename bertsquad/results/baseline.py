"""Earlier results as a baseline for a new one: which of them are, and which figure is compared."""

from collections.abc import Sequence
from dataclasses import replace

from bertsquad.results import figures, gate
from bertsquad.results.comparison import differences
from bertsquad.results.document import started
from bertsquad.results.gate import GateVerdict, Measure
from bertsquad.results.machines import machine_of
from bertsquad.results.result import Result


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
    if not judged.value:
        return None
    least = 0.0
    if judged.key == "f1":
        least = max(gate.F1_POINTS, 100 / (result.question_count or 1))
    return Measure(judged.key, judged.name, judged.value, judged.higher_is_better, least)


def is_good(result: Result) -> bool:
    """Whether a run may be part of a baseline: it passed, and nothing disturbed it."""
    kinds = {cause.kind for cause in result.invalid_causes}
    unkept = result.target_source == "probe" and "latency_bound" in kinds
    return (
        result.failure is None
        and not result.disturbances
        and not result.nodes_lost
        and "error" not in kinds
        and not unkept
    )


def judge(
    result: Result, history: Sequence[Result], band: float, accept: bool = False
) -> GateVerdict | None:
    """The verdict on a result by earlier ones of any case; None where nothing of it is compared.

    With `accept` it is the first of a new baseline, however it compares.
    """
    new = measure(result)
    if new is None:
        return None
    before = _alike(result, history)
    good = [value for one in before if is_good(one) and (value := getattr(one, new.key))]
    last = before[-1].gate if before else None
    failed_last = last is not None and last.failed
    if last is not None and last.failed and (last.baseline or 0) > 0 and last.runs > len(good):
        # Its good runs are no more among those that were read.
        good = [last.baseline] * min(last.runs, gate.RUNS)
    verdict = gate.decide(new, good, band, failed_last)
    if verdict.verdict == gate.NO_BASELINE and before:
        count = f"{len(before)} earlier run{'s' if len(before) > 1 else ''}"
        reason = f"{verdict.reason}: of {count} none passed undisturbed, so there is none"
        verdict = replace(verdict, reason=reason)
    return replace(verdict, verdict=gate.ACCEPTED) if accept else verdict


def _alike(result: Result, history: Sequence[Result]) -> list[Result]:
    """The earlier runs of the case on the same machine with the same settings, oldest first.

    What was before the last one that was accepted has no part in it.
    """
    machine, new = machine_of(result), vars(result)
    found = [
        one
        for one in sorted(history, key=started)
        if (one.mode, one.case) == (result.mode, result.case)
        and machine_of(one) == machine
        and not differences(new, vars(one))
    ]
    accepted = [
        at for at, one in enumerate(found) if one.gate and one.gate.verdict == gate.ACCEPTED
    ]
    return found[accepted[-1] :] if accepted else found
