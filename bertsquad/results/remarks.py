"""What there is to say of finished cases beyond their figures, and what to do about it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bertsquad.results import names
from bertsquad.results.advice import Advice, advise
from bertsquad.results.result import FAILED, SKIPPED, Outcome, Result, failed
from bertsquad.scenarios import MODES

_PADDED = "run padded to its fixed length, which costs more than twice the work"


@dataclass(frozen=True)
class Remark:
    """What there is to say, and the cure that its lines share, if there is one."""

    lines: tuple[str, ...]
    cure: str = ""


def remarks(outcomes: Sequence[Outcome], skips: bool = True) -> list[str]:
    """The lines of `advice`; a cure is a line that starts with an arrow."""
    found = []
    for one in advice(outcomes, skips):
        found += [*one.lines, *([f"  -> {one.cure}"] if one.cure else [])]
    return found


def advice(outcomes: Sequence[Outcome], skips: bool = True) -> list[Remark]:
    """What is no plain success, what to do about it, and with `skips` what was not run."""
    results = [one for one in outcomes if isinstance(one, Result)]
    matters = [
        (one, result)
        for result in sorted(results, key=lambda one: not failed(one))
        for one in advise(result)
    ]
    by_cure: dict[str, list[tuple[Advice, Result]]] = {}
    for one, result in _shared(matters):
        by_cure.setdefault(_alike(one.cure, one.longer), []).append((one, result))
    made = [
        Remark(tuple(grouped(found)), max((one for one, _ in found), key=_longest).cure)
        for found in by_cure.values()
    ]
    made.sort(key=lambda remark: remark.cure == "")  # those without a cure come last
    return [
        *_without_result(outcomes),
        *made,
        *_of_versions(results),
        *_of_models(results),
        *_of_pytest_session(results),
        *(_not_run(outcomes) if skips else ()),
    ]


def _without_result(outcomes: Sequence[Outcome]) -> Iterator[Remark]:
    """Why cases failed that gave no result; of a traceback its last line."""
    lost = [one for one in outcomes if one.verdict == FAILED and not isinstance(one, Result)]
    if lost:
        lines = [(one.reason.splitlines() or [""])[-1] for one in lost]
        yield Remark(tuple(grouped(list(zip(map(Advice, lines), lost, strict=True)))))


def _of_versions(results: Sequence[Result]) -> Iterator[Remark]:
    found = set()
    for result in results:
        claimed, versions = map(result.provenance.get, ("versions_claimed", "versions"))
        if isinstance(claimed, dict) and isinstance(versions, dict):
            found |= {(name, str(one), str(versions.get(name))) for name, one in claimed.items()}
    for name, known, version in sorted(found):
        line = f"{name} {version} ran, though {known} is installed by that name"
        yield Remark((line,), f"pip install --force-reinstall {name} brings one version of it")


def _alike(text: str, differing: str) -> str:
    """A text without what differs between runs of which there is the same to say."""
    return text.replace(differing, names.ANY) if differing else text


def _longest(one: Advice) -> float:
    return float(one.longer or 0)


def _shared(matters: Sequence[tuple[Advice, Result]]) -> Iterator[tuple[Advice, Result]]:
    """What there is to say; an audit that is INVALID as the run it audits has that one's cure.

    LoadGen is told the same of both, so what cures one cures the other.
    """
    cures = {
        (result.case, one.causes): one.cure
        for one, result in matters
        if one.causes and result.mode == "performance"
    }
    for one, result in matters:
        if one.causes and result.mode == "compliance":
            one = replace(one, cure=cures.get((result.case, one.causes), one.cure))
        yield one, result


def grouped(matters: Sequence[tuple[Advice, Outcome]]) -> list[str]:
    """What there is to say, each once, after the cases that it is said of.

    Of shares that differ from run to run the least and the greatest are named.
    """
    said: dict[str, list[tuple[Advice, Outcome]]] = {}
    for one, outcome in matters:
        share = "" if one.share is None else f"{one.share:.0%}"
        said.setdefault(_alike(one.matter, share), []).append((one, outcome))
    return [
        f"{_named([outcome for _, outcome in found])}: {_matter([one for one, _ in found])}"
        for found in said.values()
    ]


def _matter(found: Sequence[Advice]) -> str:
    first = found[0]
    shares = [one.share for one in found if one.share is not None]
    if first.share is None:
        return first.matter
    low, high = f"{min(shares):.0%}", f"{max(shares):.0%}"
    between = low if low == high else f"{low} to {high}"
    return first.matter.replace(f"{first.share:.0%}", between, 1)


def _named(outcomes: Sequence[Outcome]) -> str:
    """The case in its modes, or what many have in common and how many they are."""
    cases = list(dict.fromkeys(one.case for one in outcomes))
    modes = [mode for mode in MODES if mode in {one.mode for one in outcomes}]
    mode = " and ".join(filter(None, (", ".join(modes[:-1]), modes[-1])))
    if len(cases) == 1:
        return f"{cases[0]}, {mode}"
    pattern = names.pattern(cases)
    if pattern == names.ANY:
        return f"{cases[0]}, {mode}, and {len(cases) - 1:,} more"
    runs = len({(one.case, one.mode) for one in outcomes})
    count = f"{runs:,} runs" if runs < len(cases) * len(modes) else f"{len(cases):,} cases"
    return f"{pattern}, {mode} ({count})"


def _of_models(results: Sequence[Result]) -> Iterator[Remark]:
    rebuilt, padded = set(), set()
    for result in results:
        facts = result.provenance
        if why := facts.get("model_rebuilt"):
            how = facts["model_preparation"]
            rebuilt.add(f"{result.model}: {how} (rebuilt, since the cached copy was {why})")
        if facts.get("model_padded_to"):
            padded.add(f"{result.model}: {_PADDED}")
    return (Remark((line,)) for line in [*sorted(rebuilt), *sorted(padded)])


def _of_pytest_session(results: Sequence[Result]) -> Iterator[Remark]:
    sizes = {(one.dataset, one.sample_count, one.dataset_samples) for one in results}
    for dataset, count, samples in sorted(sizes):
        if count < samples:
            line = f"{dataset}: a subset, {count:,} of {samples:,} samples"
            yield Remark((line,), "--dataset-size all runs them all")
    left_out = {(one.dataset, one.questions_left_out) for one in results if one.questions_left_out}
    for dataset, questions in sorted(left_out):
        line = f"{dataset}: without {questions:,} of its questions, which int8 is calibrated with"
        yield Remark((line,), "--calibration FILE gives others")
    if results and not all(result.mlperf_valid for result in results):
        cure = ""
        if any(result.rules != "mlperf" for result in results):
            cure = "--rules mlperf runs by MLPerf's own constants, ten minutes a case or more"
        line = "Not valid MLPerf results: see invalid_reasons in each result.json."
        yield Remark((line,), cure)


def _not_run(outcomes: Sequence[Outcome]) -> Iterator[Remark]:
    by_reason: dict[str, list[Outcome]] = {}
    for one in outcomes:
        if one.verdict == SKIPPED:
            by_reason.setdefault(one.reason, []).append(one)
    for reason, skipped in by_reason.items():
        if len(skipped) == 1:
            yield Remark((f"{skipped[0].case}, {skipped[0].mode}: not run: {reason}",))
        else:
            yield Remark((f"{len(skipped)} cases not run: {reason}",))
