"""What a model answered is kept for SQuAD's scripts and for people."""

import hashlib
import json
import re
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bertsquad.results.predictions import (
    LONGEST,
    MOST,
    NAMES,
    PREDICTIONS,
    Answered,
    worst,
    write,
)
from bertsquad.squad.questions import Question
from bertsquad.squad.score import score

Asked = Sequence[tuple[str, tuple[str, ...], str]]

MIXED: Asked = [
    ("ebb", ("six", "at six"), "six"),
    ("\u5317", ("\u6771\u4eac \u4e0a\u6d77",), "\u6771\u4eac"),
    ("\u0645\u062f", ("\u0627\u0644\u0645\u062f \u0627\u0644\u0639\u0627\u0644\u064a",), "7"),
    ("wave", ("\U0001f30a",), "\U0001f30a\U0001f30a"),
    ("7", ("half past six o'clock",), "half past six"),
]


def answered(asked: Asked, version_2: bool = False) -> Answered:
    questions = tuple(Question(name, f"When is {name}?", 0, answers) for name, answers, _ in asked)
    texts = {name: given for name, _, given in asked}
    return Answered(questions, texts, score(texts, questions, version_2))


def test_predictions_are_what_squad_s_scripts_take(tmp_path: Path) -> None:
    write(tmp_path, answered(MIXED))
    content = (tmp_path / PREDICTIONS).read_bytes()
    assert json.loads(content) == {name: given for name, _, given in MIXED}
    assert list(json.loads(content)) == [name for name, _, _ in MIXED]
    assert "\u6771\u4eac".encode() in content


def test_what_was_written_is_told_with_its_checksums(tmp_path: Path) -> None:
    written = write(tmp_path, answered(MIXED))
    assert written.unwritten is None
    assert set(written.checksums) == set(NAMES) == {file.name for file in tmp_path.iterdir()}
    for name, checksum in written.checksums.items():
        assert checksum == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


def paragraphs(text: str) -> list[list[str]]:
    """The lines of each answer; the first paragraph of the file is its head."""
    return [one.splitlines() for one in text.rstrip("\n").split("\n\n")[1:]]


def test_the_worst_answers_come_first_and_right_ones_not_at_all() -> None:
    text = worst(answered(MIXED))
    assert text.startswith("4 of 5 questions were not answered wholly right\n\n")
    heads = [lines[0] for lines in paragraphs(text)]
    assert heads == [
        "1. F1 0.0 %, question \u0645\u062f",
        "2. F1 0.0 %, question wave",
        "3. F1 66.7 %, question \u5317",
        "4. F1 85.7 %, question 7",
    ]


def test_each_answer_shows_its_question_what_was_expected_and_what_was_given() -> None:
    found = paragraphs(worst(answered([("ebb", ("six", "at six", "six"), "seven")])))
    assert found == [
        [
            "1. F1 0.0 %, question ebb",
            "   question  When is ebb?",
            "   expected  six | at six",
            "   given     seven",
        ]
    ]


def test_no_answer_is_shown_as_that() -> None:
    found = paragraphs(worst(answered([("a", (), "six"), ("b", ("six",), "")], version_2=True)))
    assert found[0][2:] == ["   expected  (no answer)", "   given     six"]
    assert found[1][2:] == ["   expected  six", "   given     (no answer)"]


def test_every_text_stays_in_its_line_whatever_it_holds() -> None:
    evil = "a\nb\r\x1b[31mred\u2028\u202ereversed\x00\ud800 | \u05e9\u05dc\u05d5\u05dd"
    text = worst(answered([(evil, (evil,), f"six {evil}"), ("b", ("six",), evil)]))
    assert not re.search("[\x00-\x09\x0b-\x1f\u2028\u202e\ud800]", text)
    assert [len(lines) for lines in paragraphs(text)] == [4, 4]
    assert "\u05e9\u05dc\u05d5\u05dd" in text


def test_long_texts_are_cut_and_at_most_100_are_shown(tmp_path: Path) -> None:
    asked = [(f"q{n}", (f"tide {'long ' * 100}",), f"ebb {'short ' * 100}") for n in range(250)]
    text = worst(answered(asked))
    assert text.startswith("250 of 250 questions were not answered wholly right; the worst 100\n")
    assert len(paragraphs(text)) == MOST == 100
    for lines in paragraphs(text):
        assert len(lines[2]) <= LONGEST + 13
        assert lines[2].endswith("\N{HORIZONTAL ELLIPSIS}")
    written = write(tmp_path, answered(asked))
    assert len(json.loads((tmp_path / PREDICTIONS).read_bytes())) == 250
    assert written.unwritten is None


@pytest.mark.parametrize("asked", [[], [("ebb", ("six",), "six")]])
def test_where_nothing_is_wrong_the_head_says_so(asked: Asked) -> None:
    total = len(asked)
    assert worst(answered(asked)) == f"0 of {total} questions were not answered wholly right\n"


def test_a_text_that_is_no_text_is_written_as_its_escape(tmp_path: Path) -> None:
    write(tmp_path, answered([("\ud800", ("six",), "\udc00")]))
    assert json.loads((tmp_path / PREDICTIONS).read_bytes()) == {"\ud800": "\udc00"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_what_cannot_be_written_is_a_sentence_and_leaves_no_part(tmp_path: Path) -> None:
    big = answered([(f"q{n}", ("six",), "seven " * 20) for n in range(1000)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        written = write(tmp_path, big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert written.unwritten is not None
    assert str(tmp_path / PREDICTIONS) in written.unwritten
    assert "--output" in written.unwritten
    assert not written.checksums
    assert not list(tmp_path.iterdir())
