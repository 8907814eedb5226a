"""`tools/pictures.py` makes the documents' pictures of results."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pictures
import pytest
from made import accuracy, performance, run_folder

from bertsquad.errors import SuiteError
from bertsquad.results import archive

PICTURES = {"report.png", "report-dark.png", "table.svg", "percentiles.svg"}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for result in (accuracy("server"), performance("offline"), performance("server")):
        run_folder(tmp_path / "results", result)
    return tmp_path / "results"


def test_the_pictures_come_of_results(results: Path, tmp_path: Path) -> None:
    try:
        with pictures.browser():
            pass
    except SuiteError as error:
        pytest.skip(str(error))
    assert pictures.main([str(results), "--into", str(tmp_path / "made")]) == 0
    made = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    assert set(made) == PICTURES
    for name in ("report.png", "report-dark.png"):
        assert made[name].startswith(b"\x89PNG")
        assert len(made[name]) < 300_000
    assert made["report.png"] != made["report-dark.png"]
    table = ElementTree.fromstring(made["table.svg"])
    lines = ["".join(text.itertext()).replace("\u00a0", " ") for text in table]
    assert [line.split()[0] for line in lines if line.startswith("minilm")] == [
        *("minilm-pocket-offline-cpu-fp32", "minilm-pocket-server-cpu-fp32"),
    ]
    # Server's, which has a bound.
    assert b"bound 130 ms" in made["percentiles.svg"]
    ElementTree.fromstring(made["percentiles.svg"])


def test_results_without_a_timed_run_have_no_percentiles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = run_folder(tmp_path, accuracy())
    assert pictures.main([str(source), "--into", str(tmp_path / "made")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "made").exists()


def test_the_documents_show_the_pictures() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    guide = (ROOT / "docs" / "guide.md").read_text("utf-8")
    assert "](docs/pictures/table.svg)" in readme
    assert {path.name for path in (ROOT / "docs" / "pictures").iterdir()} == PICTURES
    for name in PICTURES:
        assert re.search(rf'pictures/{re.escape(name)}[)"]', readme + guide)


def test_a_line_of_the_table_has_its_colour() -> None:
    drawn = pictures.terminal([("case  F1", {"bold": True}), ("a & b  1", {"green": True})])
    head, row = ElementTree.fromstring(drawn)[-2:]
    assert head.get("font-weight") == "bold" and head.get("fill") is None
    assert row.get("fill") == pictures.TERMINAL["green"]
    assert row.text == "a\u00a0&\u00a0b\u00a0\u00a01"


def test_a_plot_has_no_ground_of_its_own_and_colours_for_both(results: Path) -> None:
    drawn = pictures.percentiles(archive.read([results]))
    assert "white" not in drawn
    assert not any(one.tag.endswith("rect") for one in ElementTree.fromstring(drawn))
    used = set(re.findall(r"var\(--plot-(\w+)\)", drawn))
    for scheme in ("light", "dark"):
        assert used <= pictures.COLOURS[scheme].keys()
    assert "@media (prefers-color-scheme: dark)" in drawn
