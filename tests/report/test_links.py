"""A page leads to what a run answered as long as that is there, and never to another run's."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import html5lib
import pytest
from made import accuracy, run_folder

from bertsquad.report.page import write
from bertsquad.results import archive
from bertsquad.results.predictions import Answered
from bertsquad.results.predictions import write as write_answers
from bertsquad.results.result import Result
from bertsquad.squad.questions import Question
from bertsquad.squad.score import score

ANSWER_FILES = ["worst_answers.txt", "predictions.json"]


def answered(text: str) -> Answered:
    question = Question("one", "When?", 0, ("six",))
    return Answered((question,), {"one": text}, score({"one": text}, [question]))


def run(folder: Path, text: str = "seven", **changes: Any) -> Result:
    """A run folder with its answers."""
    result = accuracy(**changes)
    place = folder / f"{result.mode}-{result.case}"
    place.mkdir(parents=True, exist_ok=True)
    written = write_answers(place, answered(text))
    result = replace(result, run_dir=str(place), answers=written.checksums)
    result.save()
    return result


def links(page: Path) -> list[str]:
    """The addresses of the page that lead to no part of itself and to no web site."""
    tree = html5lib.HTMLParser(strict=True).parse(page.read_text("utf-8"))
    found = [one.get("href") for one in tree.iter("{http://www.w3.org/1999/xhtml}a")]
    return [one for one in found if not one.startswith(("#", "https://"))]


def page_at(path: Path, *sources: Path) -> list[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(archive.read(sources), path)
    return links(path)


@pytest.mark.parametrize(
    "name",
    ["results", "re sults#1?", "a:b", "\u6771\u4eac <&\"'>"],
    ids=["plain", "odd", "colon", "CJK"],
)
@pytest.mark.parametrize("page", ["page.html", "results/page.html", "other/deep/page.html"])
def test_a_page_leads_to_the_answers_of_its_runs(tmp_path: Path, name: str, page: str) -> None:
    run(tmp_path / name)
    path = tmp_path / page.replace("results", name)
    found = page_at(path, tmp_path / name)
    assert [Path(one).name for one in found] == ANSWER_FILES
    for one in found:
        parts = urlsplit(one)
        assert not (parts.scheme or parts.netloc or parts.query or parts.fragment)
        assert (path.parent / unquote(parts.path)).resolve().is_file()


def test_a_page_and_its_runs_can_be_moved_together(tmp_path: Path) -> None:
    run(tmp_path / "here" / "results")
    found = page_at(tmp_path / "here" / "page.html", tmp_path / "here" / "results")
    (tmp_path / "here").rename(tmp_path / "there")
    for one in found:
        assert (tmp_path / "there" / one).is_file()


def test_answers_that_are_gone_or_of_a_later_run_have_no_link(tmp_path: Path) -> None:
    older = run(tmp_path / "results")
    kept = tmp_path / "kept" / "result.json"
    kept.parent.mkdir()
    kept.write_bytes((Path(older.run_dir) / "result.json").read_bytes())
    assert len(page_at(tmp_path / "page.html", kept)) == 2
    run(tmp_path / "results", "eight", day=2)
    assert page_at(tmp_path / "page.html", kept) == []
    shutil.rmtree(tmp_path / "results")
    assert page_at(tmp_path / "page.html", kept) == []


@pytest.mark.parametrize("place", ["", "/nowhere", "x" * 5000, "../..", "\ud800"], ids=ascii)
def test_a_folder_from_elsewhere_has_no_link(tmp_path: Path, place: str) -> None:
    result = accuracy(run_dir=place, answers=dict.fromkeys([*ANSWER_FILES, "/etc/hosts"], "00"))
    run_folder(tmp_path, result)
    assert page_at(tmp_path / "page.html", tmp_path) == []


def test_a_result_from_before_has_no_link(tmp_path: Path) -> None:
    run_folder(tmp_path, accuracy())
    assert page_at(tmp_path / "page.html", tmp_path) == []
