"""The names of cases: taken apart, put in order, and what several have in common."""

from collections.abc import Collection, Sequence

from bertsquad.scenarios import MODES, SCENARIOS

#: Stands in a name for what differs.
ANY = "*"


def parts(case: str) -> tuple[str, str, str, str]:
    """Model and data set, scenario, device and precision of a case's name.

    As `("minilm-pocket", "offline", "cpu", "fp32")`. A name of another form is all in the first.
    """
    # A model or a file of the user's own may be called like a scenario, so the last one counts.
    at, scenario = max((case.rfind(f"-{name}-"), name) for name in SCENARIOS)
    if at < 0:
        return case, "", "", ""
    device, _, precision = case[at + len(scenario) + 2 :].partition("-")
    return case[:at], scenario, device, precision


def place(case: str, mode: str) -> tuple[str, int, str, int]:
    """The key that cases are sorted by: model and data set, scenario, case, mode."""
    prefix, scenario, _, _ = parts(case)
    modes = MODES.index(mode) if mode in MODES else len(MODES)
    return prefix, list(SCENARIOS).index(scenario) if scenario else 0, case, modes


def pattern(cases: Collection[str]) -> str:
    """What cases have in common, as `minilm-pocket-*-cpu-fp32`."""
    found = [one if one is not None else ANY for one in _common(cases)]
    kept = [one for n, one in enumerate(found) if one and (one != ANY or found[n - 1 : n] != [ANY])]
    return "-".join(kept)


def labels(cases: Collection[str]) -> dict[str, str]:
    """Each case, and what tells it from the others: what stands for `*` in their pattern."""
    common = _common(cases)
    return {
        case: "-".join(own for own, one in zip(parts(case), common, strict=True) if one is None)
        for case in cases
    }


def _common(cases: Collection[str]) -> list[str | None]:
    """The parts that all cases share; None for one that differs."""
    columns: list[Sequence[str]] = list(zip(*map(parts, cases), strict=True))
    return [column[0] if len(set(column)) == 1 else None for column in columns]


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters; what is too long lacks its middle."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"
