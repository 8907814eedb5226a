"""The bundled data set: its form, its spread, and that it is this suite's own prose."""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from shared_data import (
    POCKET,
    POCKET_FILE,
    dev_set,
    dev_set_features,
    needs_dev_set,
    pocket,
    pocket_features,
    vocabulary,
)

from bertsquad.assets import registry
from bertsquad.squad.answers import MAX_ANSWER_TOKENS
from bertsquad.squad.features import MAX_TOKENS

Run = tuple[str, ...]


def paragraphs() -> Iterator[dict[str, Any]]:
    document = json.loads(POCKET_FILE.read_bytes())
    assert document["version"] == "1.1"
    for article in document["data"]:
        assert article["title"]
        yield from article["paragraphs"]


def runs(text: str, length: int) -> set[Run]:
    """Every `length` words in a row, case and punctuation ignored."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def runs_of_all(texts: Iterable[str], length: int) -> set[Run]:
    return set().union(*(runs(text, length) for text in texts))


def test_there_are_60_contexts_and_300_questions_at_least() -> None:
    assert len(set(pocket().contexts)) == len(pocket().contexts) >= 60
    texts = {(question.context, question.text) for question in pocket().questions}
    assert len(texts) == len(pocket().questions) >= 300


def test_every_context_is_asked_about() -> None:
    assert {q.context for q in pocket().questions} == set(range(len(pocket().contexts)))


def test_every_answer_stands_in_its_context_where_it_says() -> None:
    for paragraph in paragraphs():
        for qa in paragraph["qas"]:
            for answer in qa["answers"]:
                start, text = answer["answer_start"], answer["text"]
                assert paragraph["context"][start : start + len(text)] == text, qa["id"]
                assert text == text.strip() != "", qa["id"]


def test_every_answer_begins_and_ends_with_a_whole_word() -> None:
    for paragraph in paragraphs():
        for qa in paragraph["qas"]:
            for answer in qa["answers"]:
                start, text = answer["answer_start"], answer["text"]
                around = f" {paragraph['context']} "[start : start + len(text) + 2]
                assert not re.match(r"\w\w", around), (qa["id"], around)
                assert not re.search(r"\w\w$", around), (qa["id"], around)


def test_every_question_has_one_to_three_different_answers() -> None:
    for question in pocket().questions:
        assert 1 <= len(question.answers) <= 3, question.id
        assert len(set(question.answers)) == len(question.answers), question.id
    assert {len(question.answers) for question in pocket().questions} == {1, 2, 3}


def test_ids_are_unique_and_of_squad_s_form() -> None:
    ids = [qa["id"] for paragraph in paragraphs() for qa in paragraph["qas"]]
    assert len(set(ids)) == len(ids)
    assert [name for name in ids if not re.fullmatch("[0-9a-f]{24}", name)] == []


def test_every_question_can_be_answered_within_the_longest_answer() -> None:
    shortest = {q.id: min(q.answers, key=len) for q in pocket().questions}
    encoded = vocabulary().encode(shortest.values())
    assert max(len(encoded[text]) for text in shortest.values()) <= MAX_ANSWER_TOKENS


def test_windows_are_about_as_long_as_squad_s() -> None:
    lengths = pocket_features().lengths
    assert 150 <= np.median(lengths) <= 180
    assert lengths.max() == MAX_TOKENS
    assert (lengths == MAX_TOKENS).sum() >= 5
    assert lengths.min() < 110


def test_windows_of_five_contexts_at_least_overlap() -> None:
    made = pocket_features()
    assert (np.diff(made.context_offsets) > 400).sum() >= 5
    several = np.flatnonzero(np.bincount(made.question) > 1)
    assert len({pocket().questions[index].context for index in several}) >= 5


@needs_dev_set
def test_the_dev_set_s_windows_have_that_median_too() -> None:
    assert 150 <= np.median(dev_set_features().lengths) <= 180


def is_accented(context: str) -> bool:
    decomposed = unicodedata.normalize("NFD", context)
    return any(unicodedata.category(char) == "Mn" for char in decomposed)


@pytest.mark.parametrize(
    ("pattern", "contexts"),
    [
        (r"[“”\"]", 10),
        (r"\w[\u2019']\w", 10),
        (r"[£€$¥]\s?\d", 10),
        (r"\d\s?(°C|%|km|m|kg|mm|cm|µm|km²|nm|g|V|A|W|Hz|kHz)\b|\d\s?°C|\d %", 10),
        (r"\b1\d{3}\b|\b20\d\d\b", 20),
        (
            r"\d{1,2} (January|February|March|April|May|June|July|August|September|October"
            r"|November|December) \d{4}",
            5,
        ),
        (r"\d[,.]\d", 10),
        (r"\w[-\u2013]\w", 10),
    ],
    ids=["quotes", "apostrophes", "currency", "units", "years", "dates", "decimals", "dashes"],
)
def test_the_prose_holds_what_trips_a_tokeniser(pattern: str, contexts: int) -> None:
    assert sum(bool(re.search(pattern, text)) for text in pocket().contexts) >= contexts


def test_the_prose_and_its_answers_hold_accents() -> None:
    assert sum(map(is_accented, pocket().contexts)) >= 10
    assert any(is_accented(answer) for q in pocket().questions for answer in q.answers)


def test_no_question_quotes_six_words_in_a_row_of_its_passage() -> None:
    quoted = [
        question.text
        for question in pocket().questions
        if runs(question.text, 6) & runs(pocket().contexts[question.context], 6)
    ]
    assert quoted == []


def test_questions_follow_no_template() -> None:
    openings = Counter(" ".join(question.text.split()[:4]) for question in pocket().questions)
    assert openings.most_common(1)[0][1] <= 0.03 * len(pocket().questions)


def test_questions_are_questions() -> None:
    assert [q.text for q in pocket().questions if not q.text.strip().endswith("?")] == []


def test_bundled_files_have_the_checksums_of_the_registry() -> None:
    bundled = {entry.name: entry.checksum for entry in registry.entries().values() if entry.bundled}
    data = [path for path in POCKET.iterdir() if path.is_file() and path.suffix != ".md"]
    assert set(bundled) == {f"pocket/{path.name}" for path in data}
    for name, checksum in bundled.items():
        content = (POCKET / name.removeprefix("pocket/")).read_bytes()
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == checksum, name


#: Texts written apart share idioms ("and with the help of a" and a noun is the longest that this
#: set shares with the dev set, 7 words); 8 words in a row, in 14,000 runs, mean a copied clause.
COPIED = 8


@needs_dev_set
def test_no_clause_of_the_dev_set_is_in_the_bundled_set() -> None:
    official = runs_of_all(dev_set().contexts, COPIED)
    shared = {run for text in pocket().contexts for run in runs(text, COPIED) & official}
    assert shared == set()

    # Nor would a copied sentence go unnoticed among this set's own.
    sentence = dev_set().contexts[1_000].split(". ")[0]
    assert runs(f"{pocket().contexts[0]} Then: {sentence.upper()}!", COPIED) & official


@needs_dev_set
def test_no_question_of_the_dev_set_is_in_the_bundled_set() -> None:
    official = {" ".join(re.findall(r"\w+", q.text.lower())) for q in dev_set().questions}
    own = {" ".join(re.findall(r"\w+", q.text.lower())) for q in pocket().questions}
    assert own & official == set()
    assert {q.id for q in pocket().questions} & {q.id for q in dev_set().questions} == set()
    theirs = runs_of_all((q.text for q in dev_set().questions), COPIED)
    assert [q.text for q in pocket().questions if runs(q.text, COPIED) & theirs] == []
