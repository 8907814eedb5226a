"""What there is to say of finished cases beyond their figures, and what to do about it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bertsquad.results import names
from bertsquad.results.advice import advise
from bertsquad.results.result import FAILED, SKIPPED, Outcome, Result, failed

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
    by_cure: dict[str, list[tuple[str, Result]]] = {}
    for result in sorted(results, key=lambda one: not failed(one)):
        for found in advise(result):
            by_cure.setdefault(found.cure, []).append((found.matter, result))
    made = [Remark(tuple(grouped(found)), cure) for cure, found in by_cure.items()]
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
        yield Remark(tuple(grouped(list(zip(lines, lost, strict=True)))))


def _of_versions(results: Sequence[Result]) -> Iterator[Remark]:
    found = set()
    for result in results:
        claimed, versions = map(result.provenance.get, ("versions_claimed", "versions"))
        if isinstance(claimed, dict) and isinstance(versions, dict):
            found |= {(name, str(one), str(versions.get(name))) for name, one in claimed.items()}
    for name, known, version in sorted(found):
        line = f"{name} {version} ran, though {known} is installed by that name"
        yield Remark((line,), f"pip install --force-reinstall {name} brings one version of it")


def grouped(matters: Sequence[tuple[str, Outcome]]) -> list[str]:
    """What there is to say, each once, after the cases that it is said of."""
    cases_of: dict[tuple[str, str], dict[str, None]] = {}
    for matter, one in matters:
        cases_of.setdefault((matter, one.mode), {})[one.case] = None
    return [f"{_named(list(cases), mode)}: {matter}" for (matter, mode), cases in cases_of.items()]


def _named(cases: Sequence[str], mode: str) -> str:
    """The case in its mode, or what many have in common and how many they are."""
    if len(cases) == 1:
        return f"{cases[0]}, {mode}"
    pattern = names.pattern(cases)
    if pattern == names.ANY:
        return f"{cases[0]}, {mode}, and {len(cases) - 1:,} more"
    return f"{pattern}, {mode} ({len(cases):,} cases)"


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
