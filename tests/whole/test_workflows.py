"""The workflows run what a user is told to run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def commands(text: str) -> str:
    """A text with each command on one line."""
    return re.sub(r"[\\\s]+", " ", text)


def test_a_push_runs_what_developers_run() -> None:
    assert "bash .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")


def test_the_commands_for_cron_are_those_of_the_nightly_workflow() -> None:
    workflow = commands((ROOT / ".github" / "workflows" / "nightly.yml").read_text("utf-8"))
    recipe = (ROOT / "docs" / "recipes.md").read_text("utf-8").partition("## Nightly")[2]
    block = commands(recipe.split("```")[1])
    runs, gate = re.split(" (?=--benchmark-compare )", block.partition("pytest")[2], maxsplit=1)
    gate, _, report = gate.partition(" python ")
    assert f"pytest{runs}" in workflow
    assert gate in workflow
    assert f"python {report.strip()}" in workflow


@pytest.mark.parametrize("path", WORKFLOWS, ids=[path.stem for path in WORKFLOWS])
def test_a_workflow_may_only_read_and_pins_its_actions(path: Path) -> None:
    text = path.read_text("utf-8")
    assert "permissions:\n  contents: read\n" in text
    assert "secrets." not in text
    # A tag can be moved to other code; a hash can't. The comment says which version it is.
    for action in re.findall(r"uses: (.+)", text):
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
