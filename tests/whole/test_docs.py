"""What the documents lead to is there, and what they tell to type is taken."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path
    for folder in (ROOT, ROOT / "docs", ROOT / "bertsquad", ROOT / "tests")
    for path in folder.glob("*.md" if folder in (ROOT, ROOT / "docs") else "*/README.md")
)


def anchors(document: Path) -> set[str]:
    """The names by which GitHub links to the headings of a document."""
    told = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", told, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_leads_to_is_there(document: Path) -> None:
    form = r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\""
    for found in re.findall(form, document.read_text("utf-8")):
        link = "".join(found)
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), f"{document.name} leads to {link}, which isn't there"
        if anchor:
            assert anchor in anchors(target), f"{document.name} leads to {link}: no such heading"


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached, open_ones = set(), [ROOT / "README.md"]
    while open_ones:
        document = open_ones.pop()
        if document in reached:
            continue
        reached.add(document)
        for name in re.findall(r"\]\(([^)\s#]+\.md)", document.read_text("utf-8")):
            if "://" not in name:
                open_ones.append((document.parent / name).resolve())
    assert {path for path in DOCUMENTS if path.parent.name == "docs"} <= reached


def helped(*command: str) -> set[str]:
    """The options that a command's help names."""
    done = subprocess.run(
        [sys.executable, "-m", *command, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", done.stdout))


def typed(tool: str) -> set[tuple[str, str]]:
    """The options that the documents give to a tool, each with the document's name."""
    found = set()
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = document.read_text("utf-8").replace("\\\n", " ")
        for line in re.findall(rf"(?:^|`|&& ){tool} ([^`\n|#]*)", text, re.MULTILINE):
            for option in re.findall(r"(?<=\s)(--[a-z][\w-]*)", f" {line}"):
                found.add((document.name, option))
    return found


def test_pytest_takes_what_the_documents_tell_to_type() -> None:
    told, known = typed("pytest benchmarks"), helped("pytest") | {"--junitxml"}  # an older name
    assert len(told) > 30
    assert [one for one in sorted(told) if one[1] not in known] == []


@pytest.mark.parametrize(
    "command", ["fetch", "clean", "report", "show", "get", "compare", "submission"]
)
def test_a_command_takes_what_the_documents_tell_to_type(command: str) -> None:
    told = typed(f"python -m bertsquad {command}")
    if told:
        known = helped("bertsquad", command)
        assert [one for one in sorted(told) if one[1] not in known] == []


def test_a_file_of_options_is_taken_as_if_it_had_been_typed(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "options.md").read_text("utf-8")
    (tmp_path / "epyc.args").write_text(text.partition("## A file of options")[2].split("```\n")[1])
    collected = [sys.executable, "-m", "pytest", f"@{tmp_path / 'epyc.args'}", "--collect-only"]
    done = subprocess.run(
        [*collected, "-q", "--instances=1"],  # what stands behind it on the command line counts
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2/" in done.stdout and "minilm-pocket-offline-cpu-int8" in done.stdout
