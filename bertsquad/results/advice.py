"""What to do about a result that is no plain success: for each cause the option that cures it.

Pure functions of a Result. The remarks above the table, and on the page, are made of them.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bertsquad.loadgen import work
from bertsquad.loadgen.logs import Cause
from bertsquad.loadgen.user_conf import plain
from bertsquad.results import gate, limits, nodes
from bertsquad.results.compliance import TOLERANCE
from bertsquad.results.reference import KNOWN
from bertsquad.results.result import FAILED, NO_TARGET, UNDECIDED, Result
from bertsquad.rules import TEST01

#: LoadGen prepares a run by its target; a target this much above what was measured leaves room for
#: a faster moment.
SLACK = 1.2
#: Where a Server rate missed the bound, this share of it may keep it.
LOWER_RATE = 0.7

#: How sure early stopping is of a percentile.
_CONFIDENCE = 0.99

#: The parts in which a run's speed is looked at; with fewer than the least it isn't looked at.
PARTS, FEWEST_PARTS = 10, 4
#: Less than this share of the fastest part's speed in the slowest is a wide spread. Seen on 2 cores
#: with minilm: streams 0.87 to 0.96 in runs that nothing disturbed and 0.31 to 0.36 where a process
#: took a core in the second half, Offline 0.73 to 0.80 and 0.64, Server 0.63 to 0.80 and 0.34.
STEADY_SHARE = {"offline": 0.67, "singlestream": 0.7, "multistream": 0.7, "server": 0.5}


@dataclass(frozen=True)
class Advice:
    """What is wrong with a result, and what to do about it (empty where that isn't known).

    `share` is one that `matter` names in per cent and `longer` a duration that `cure` names: all
    that differs between runs of which there is the same to say. `causes` are the kinds of LoadGen's
    causes, where it calls the run INVALID.
    """

    matter: str
    cure: str = ""
    share: float | None = None
    longer: str = ""
    causes: frozenset[str] = frozenset()


def advise(result: Result) -> list[Advice]:
    """Everything that a reader of the result should know beyond its figures."""
    judged = _accuracy(result) if result.mode == "accuracy" else _timed(result)
    judged += [*_of_gate(result), *_of_settings(result)]
    disturbed = [Advice(one.matter, one.cure, one.share) for one in result.disturbances]
    if result.doubt is not None:
        disturbed.append(Advice(result.doubt.matter, result.doubt.cure))
    # Results that are older than these have sentences alone.
    told = [one for one in result.warnings if one != result.reason]
    sentences = [] if disturbed else [Advice(sentence) for sentence in told]
    return [*judged, *_otherwise(result), *_spread(result), *disturbed, *sentences]


def _otherwise(result: Result) -> list[Advice]:
    """The questions that a known model answers otherwise in fp32 than where it was looked at."""
    reference = result.reference
    if reference is None or not reference.differing:
        return []
    if reference.source != KNOWN or result.precision != "fp32":
        return []
    told = [f"{one.question} ({one.reference_f1:.2f} -> {one.f1:.2f})" for one in reference.first]
    if reference.differing > len(told):
        told.append("...")
    return [
        Advice(
            f"{reference.differing:,} of {reference.questions:,} questions have another F1 than "
            f"{reference.named}: {', '.join(told)}",
            "a few may, where another processor or runtime rounds otherwise",
        )
    ]


def _accuracy(result: Result) -> list[Advice]:
    if result.verdict == NO_TARGET:
        return [Advice(result.reason, "--reference-f1 tells what the fp32 model reaches there")]
    if result.verdict == UNDECIDED:
        return [Advice(result.reason, "a larger --dataset-size, or all")]
    if result.verdict == FAILED:
        return [Advice(result.reason, _for_f1(result))]
    # A subset's reason has the bound that it was judged by; beside a reference, so has the table.
    alone = result.f1_upper_bound is not None and result.reference is None
    return [Advice(result.reason)] if alone else []


def _for_f1(result: Result) -> str:
    reached, target = result.f1_upper_bound or result.f1, result.f1_target
    if reached is None or target is None or reached >= target:
        return ""  # it failed for something else, which the reason tells
    if result.precision in ("int8", "bf16", "fp16"):
        return "--precision fp32 shows whether the precision or the model costs it"
    if result.device != "cpu":
        return "--device cpu shows whether the device or the model costs it"
    return (
        "look whether the model was trained for such questions, whether its tokeniser is its own "
        "(--tokenizer), and whether --reference-f1 and --accuracy-target are meant for it"
    )


def _timed(result: Result) -> list[Advice]:
    found = []
    failed = result.verdict == FAILED
    if result.loadgen_valid is False:
        causes = result.invalid_causes
        reason = result.reason
        audited = result.mode == "compliance" or bool(result.nodes_lost)
        if audited or (causes and not failed):  # the reason is another one, or names its case again
            said = "; ".join(cause.reason for cause in causes)
            reason = f"LoadGen calls the run INVALID: {said or 'see its log'}"
        kinds = frozenset(cause.kind for cause in causes)
        found.append(Advice(reason, _cures(result, causes), causes=kinds))
        failed = failed and audited
    if failed:
        cure = _for_audit(result) if result.mode == "compliance" else ""
        cure = nodes.CURE if result.nodes_lost else cure
        found.append(Advice(result.reason, cure))
    return found


def _of_gate(result: Result) -> list[Advice]:
    verdict = result.gate
    if verdict is None or verdict.verdict in (gate.PASSED, gate.ACCEPTED):
        return []
    if verdict.failed:
        cure = "find what made it worse, or take it as the new baseline with --gate-accept"
        return [Advice(verdict.reason, cure)]
    return [Advice(verdict.reason)]


def _of_settings(result: Result) -> list[Advice]:
    """What LoadGen did otherwise than without the user.conf, since the figures depend on it."""
    usual = work.usual(result.scenario, result.rules)
    changed = work.changed(result.scenario, result.rules, result.settings)
    told = [f"{key} {plain(now)} (usually {plain(usual[key])})" for key, now in changed.items()]
    if not told:
        return []
    return [
        Advice(
            f"the user.conf set {', '.join(told)}",
            "compare these figures only with those of runs under the same settings",
        )
    ]


def _for_audit(result: Result) -> str:
    if result.compliance_responses == 0:
        longer = "a longer --min-duration-s gives LoadGen more responses to sample"
        keys = limits.below(result, limits.Need(math.inf, math.inf))
        return f"{limits.removal(keys)}; then {longer}" if keys else longer
    tolerance = TOLERANCE.get(result.precision, math.inf)
    if (result.compliance_largest_difference or 0) > tolerance:
        return (
            "run the case again; if it stays, --precision fp32 or --device cpu shows what makes "
            "the difference"
        )
    ratio = result.compliance_speed_ratio
    if ratio is not None and abs(ratio - 1) > TEST01.speed_tolerance:
        both = f'"{result.scenario} and (performance or compliance)"'
        return f"run both again when the machine is quiet: -k {both}"
    return ""


def _cures(result: Result, causes: Sequence[Cause]) -> str:
    """The cures of all causes of an INVALID run, each once.

    What of a user.conf is in the way comes first: no option helps against it. A run that it ended
    early misses everything else too, and one that missed its latency bound can't satisfy early
    stopping: there, only the first such cause needs a cure.
    """
    decisive = [cause for cause in causes if cause.kind in _DECISIVE][:1]
    chosen = [cause for cause in decisive or causes if cause.kind not in limits.LIMITS]
    keys = limits.in_the_way(result, SLACK)
    if keys and (not decisive or decisive[0].kind in limits.LIMITS):
        # Of what it misses now, only what it would miss without the keys, too.
        chosen = [cause for cause in causes if _stays(result, cause)]
    cures = [_CURES.get(cause.kind, _for_error)(result, cause) for cause in chosen]
    options = "; ".join(dict.fromkeys(cure for cure in cures if cure))
    return "; then ".join(part for part in (limits.removal(keys), options) if part)


def _stays(result: Result, cause: Cause) -> bool:
    """Whether a run misses something even if nothing of the user.conf ends it early."""
    if cause.kind == "early_stopping":
        known = None not in (result.min_duration_s, result.min_query_count)
        return known and cause.needed is not None and cause.needed > limits.planned(result)
    if cause.kind == "min_duration" and result.scenario == "offline":
        return (result.qps or 0) > (result.target_qps or math.inf)
    if cause.kind == "min_duration" and result.scenario != "server":
        return (result.target_latency_ms or 0) > (result.latency_p50_ms or math.inf)
    return cause.kind == "error"


def _for_bound(result: Result, cause: Cause) -> str:
    curve = result.timeline.get("latency", {}).get("ms")
    bound, rate = result.target_latency_ms, result.target_qps
    if bound is None or rate is None:
        return ""  # a run of this suite has both: the result was edited
    if curve and curve[0] > bound:
        return (
            f"the fastest query took {_up(curve[0])} ms, so no rate keeps {bound:g} ms here: a "
            "faster --precision or --device, or a higher bound by --target-latency-ms"
        )
    rate = min(rate, result.qps or rate)
    return _target(result, "--target-qps", _down(LOWER_RATE * rate), "lowers the rate")


def _for_duration(result: Result, cause: Cause) -> str:
    if result.qps and result.scenario == "offline":
        rate = _up(SLACK * result.qps)
        return _target(result, "--target-qps", rate, "makes its query large enough")
    if result.scenario in ("singlestream", "multistream") and result.latency_p50_ms:
        latency = _down(result.latency_p50_ms / SLACK)
        return _target(result, "--target-latency-ms", latency, "makes LoadGen prepare more queries")
    return "run it again"


def _for_queries(result: Result, cause: Cause) -> str:
    """A longer duration, in which the needed queries fit at the rate of this run."""
    found, needed = cause.found, cause.needed
    if not found or not needed:
        return "a longer --min-duration-s has more queries"
    if result.scenario != "server" or result.target_qps is None:
        seconds = needed * result.run_time_s / found
        return f"--min-duration-s {_up(SLACK * seconds)} has {needed} queries"
    longer = f"--min-duration-s {_up(SLACK * needed / result.target_qps)} has {needed} queries"
    if needed <= max(2 * found, _unmissed_queries(result)):
        return longer
    return f"{longer}, or --target-qps {_down(LOWER_RATE * result.target_qps)} keeps the bound"


def _unmissed_queries(result: Result) -> int:
    """The queries that early stopping wants in Server where all kept the bound: 459 for 99 %.

    It wants more where some missed it, and then a lower rate may help too.
    """
    percentile = result.settings.get("target_latency_percentile", 99)
    return math.ceil(math.log(1 - _CONFIDENCE) / math.log(percentile / 100))


def _for_error(result: Result, cause: Cause) -> str:
    return "run it without the settings of the user.conf that the error names"


_CURES: Mapping[str, Callable[[Result, Cause], str]] = {
    "error": _for_error,
    "latency_bound": _for_bound,
    "min_duration": _for_duration,
    "min_queries": _for_queries,
    "early_stopping": _for_queries,
}
_DECISIVE = (*limits.LIMITS, "error", "latency_bound")


def _target(result: Result, flag: str, value: str, effect: str) -> str:
    """The cure that sets a target, by where the target of the run came from."""
    cure = f"{flag} {value} {effect}"
    if result.target_source == "option":
        return f"{cure}; without that option a probe sets it"
    if result.target_source == "user-conf":
        return f"{cure}; the option overrides the user.conf"
    return cure


def _spread(result: Result) -> list[Advice]:
    share = steadiness(result.timeline.get("course", {}).get("relative_speed", ()))
    if result.mode == "accuracy" or share is None or share >= STEADY_SHARE[result.scenario]:
        return []
    seconds = 10 * result.run_time_s
    wanted = limits.Need(seconds * (limits.rate(result) or 0), seconds)
    bound = result.rules == "mlperf" or limits.below(result, wanted)
    longer = "" if bound else _up(seconds)
    more = longer and f", longer (--min-duration-s {longer})"
    return [
        Advice(
            "the speed was not steady: the slowest part of the run calculated at "
            f"{share:.0%} of the fastest's speed",
            f"run it again when the machine is quiet{more}, or several times to see the spread",
            share,
            longer,
        )
    ]


def steadiness(speeds: Sequence[float]) -> float | None:
    """The speed of the slowest part as a share of the fastest's; None for a run without parts.

    `speeds` are those of the run's spans, in their order.
    """
    moving = [speed for speed in speeds if speed > 0]
    count = min(PARTS, len(moving))
    if count < FEWEST_PARTS:
        return None
    edges = [part * len(moving) // count for part in range(count + 1)]
    parts = [statistics.fmean(moving[a:b]) for a, b in itertools.pairwise(edges)]
    return min(parts) / max(parts)


def _up(value: float) -> str:
    """A number with two significant digits, rounded up."""
    return _two_digits(value, math.ceil)


def _down(value: float) -> str:
    """A number with two significant digits, rounded down."""
    return _two_digits(value, math.floor)


def _two_digits(value: float, whole: Callable[[float], int]) -> str:
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    digits = round(whole(round(value / unit, 9)) * unit, 12)
    return f"{digits:.12f}".rstrip("0").rstrip(".")
