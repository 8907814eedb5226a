"""The workflows run what a user is told to run."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from bertsquad.machine import hardware
from bertsquad.rules import EDGE_SCENARIOS
from bertsquad.scenarios import MODES
from bertsquad.suite.cases import Case, collect
from bertsquad.suite.flags import OPTIONS, build
from bertsquad.suite.header import estimate_s
from bertsquad.suite.options import Options

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def commands(text: str) -> str:
    """A text with each command on one line."""
    return re.sub(r"[\\\s]+", " ", text)


def test_a_push_runs_what_developers_run() -> None:
    assert "bash .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")


NIGHTLY = (ROOT / ".github" / "workflows" / "nightly.yml").read_text("utf-8")


def recipe() -> tuple[str, str]:
    """What cron runs: the pytest session, and the report."""
    told = (ROOT / "docs" / "recipes.md").read_text("utf-8").partition("## Nightly")[2]
    run, _, report = commands(told.split("```")[1]).partition("pytest")[2].partition(" python ")
    return f"pytest{run}", f"python {report.strip()}"


def test_the_commands_for_cron_are_those_of_the_nightly_workflow() -> None:
    for command in recipe():
        assert command in commands(NIGHTLY)


def nightly() -> tuple[Options, list[tuple[Case, str]]]:
    """The options of the nightly run, and the cases in their modes that its `-k` selects."""
    words = shlex.split(recipe()[0])[2:]
    by_flag = {option.flag: option for option in OPTIONS}
    given: dict[str, Any] = {}
    for flag, text in zip(words, [*words[1:], "--"], strict=True):
        if (option := by_flag.get(flag)) is None:
            continue
        value = option.bare if text.startswith("--") else option.parse(text)
        given[option.field] = [*given.get(option.field, []), value] if option.repeats else value
    options = build(given)
    wanted = words[words.index("-k") + 1]
    return options, [
        (case, mode)
        for mode in MODES
        for case in collect(options, mode)
        if any(
            all(
                (word.removeprefix("not ") in f"{mode} {case.id}") != word.startswith("not ")
                for word in part
            )
            for part in (one.split(" and ") for one in wanted.split(" or "))
        )
    ]


def test_the_night_requires_each_case_that_it_runs_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    options, chosen = nightly()
    assert set(options.required) == {case.id for case, _ in chosen}
    assert options.gate is not None
    assert options.rules == "mlperf"


def test_the_night_has_no_case_that_is_never_valid_and_f1_once_in_each_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    _, chosen = nightly()
    assert {case.scenario for case, _ in chosen} == set(EDGE_SCENARIOS)
    assert {case.dataset.name for case, _ in chosen} == {"squad"}
    scored = [case.precision for case, mode in chosen if mode == "accuracy"]
    assert len(scored) == len(set(scored)) == 2


def test_the_night_ends_in_time_on_two_cores_though_all_cases_run_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(hardware, "cores", lambda: 2)
    options, chosen = nightly()
    limit = re.search(r"timeout-minutes: (\d+)", NIGHTLY)
    assert limit is not None
    minutes = sum(estimate_s(case, mode, options) for case, mode in chosen) / 60
    assert 2 * minutes < int(limit[1])


@pytest.mark.parametrize("path", WORKFLOWS, ids=[path.stem for path in WORKFLOWS])
def test_a_workflow_may_only_read_and_pins_its_actions(path: Path) -> None:
    text = path.read_text("utf-8")
    assert "permissions:\n  contents: read\n" in text
    assert "secrets." not in text
    # A tag can be moved to other code; a hash can't. The comment says which version it is.
    for action in re.findall(r"uses: (.+)", text):
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
