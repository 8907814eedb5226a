"""The house is as docs/architecture.md shows it, and stays in order."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "bertsquad"
MAP = (ROOT / "docs" / "architecture.md").read_text("utf-8")
WINGS = {path.parent.name for path in PACKAGE.glob("*/*.py")}

#: Folders of tests/ that mirror no wing.
ELSEWHERE = {"whole", "support", "tools"}
MOST_LINES = 350
IMPORTS = (ast.Import, ast.ImportFrom)


def sections(text: str, mark: str) -> dict[str, str]:
    """What stands below each heading that begins with `mark`, by the heading."""
    parts = re.split(rf"^{mark} (.+)\n", text, flags=re.MULTILINE)[1:]
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


PARTS = sections(MAP, "##")
SHOWN = sections(PARTS["The modules"], "###")


def listed(text: str) -> list[str]:
    """The modules that have a line in a text."""
    return re.findall(r"^- `(\w+)`: ", text, re.MULTILINE)


def modules(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.py")} - {"__init__"}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef)}


def test_the_map_has_every_wing_and_no_other() -> None:
    assert set(SHOWN) == WINGS | {"the root"}


@pytest.mark.parametrize("wing", sorted(WINGS))
def test_a_wing_has_a_line_for_each_of_its_modules_the_same_in_both_places(wing: str) -> None:
    told = ast.get_docstring(parsed(PACKAGE / wing / "__init__.py"))
    assert told is not None
    assert set(listed(told)) == modules(PACKAGE / wing)
    assert SHOWN[wing] == told


def test_the_map_has_a_line_for_each_module_at_the_root() -> None:
    assert set(listed(SHOWN["the root"])) == modules(PACKAGE)


def test_the_map_names_nothing_that_is_not_there() -> None:
    """But for what it calls new, which says where that would go."""
    named = re.findall(r"(a new )?`(\w+/[\w./]*)`", MAP)
    assert len(named) > 30
    for new, name in named:
        is_there = (PACKAGE / f"{name}.py").is_file() or (ROOT / name).exists()
        assert is_there != bool(new), f"{name}: is there: {is_there}"


def test_who_contributes_is_led_to_files_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = set(re.findall(r"\b(?:bertsquad|tests|docs|\.ci)/[\w./]*\w", text))
    assert len(named) > 10
    for name in named:
        assert (ROOT / name).exists(), f"CONTRIBUTING.md names {name}, which isn't there"
    readme = (ROOT / "README.md").read_text("utf-8")
    for name in ("CONTRIBUTING.md", "docs/architecture.md"):
        assert f"]({name})" in readme


def test_the_picture_of_the_wings_is_the_contract() -> None:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (layers,) = (
        contract["layers"]
        for contract in document["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    )
    picture = MAP.split("```")[1].strip().splitlines()
    assert [line.partition("  ")[0] for line in picture] == layers


def test_imports_keep_to_the_contracts() -> None:
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_init_imports_anything() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        found = [node for node in ast.walk(parsed(path)) if isinstance(node, IMPORTS)]
        assert not found, f"{path}: a light module of the wing would load what this imports"


def test_no_module_is_longer_than_one_can_keep_in_mind() -> None:
    files = [*PACKAGE.rglob("*.py"), ROOT / "conftest.py", *ROOT.glob("tools/*.py")]
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in files
    }
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_a_file_of_tests_stands_where_the_module_that_it_tests_does() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        place = path.relative_to(ROOT / "tests")
        if place.parts[0] not in ELSEWHERE:
            name = path.stem.removeprefix("test_")
            tested = {name, f"__{name}__"} & modules(PACKAGE / place.parent)
            assert tested, f"tests/{place} has no bertsquad/{place.parent / name}.py to test"


def test_every_fault_names_tests_that_are_there() -> None:
    rows = re.findall(r"^\| .+", (ROOT / "docs" / "faults.md").read_text("utf-8"), re.MULTILINE)
    assert len(rows) > 100
    for row in rows:
        if row.endswith("| test |"):
            continue
        named = re.findall(r"`([\w/]+\.py)::(\w+)", row)
        assert named, f"no test is named in: {row}"
        for file, name in named:
            assert name in functions(ROOT / "tests" / file), f"tests/{file} has no {name}"
