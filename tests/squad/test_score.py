"""Exact match and F1 are those of SQuAD's official script."""

import math

import pytest
from shared_data import dev_set, needs_dev_set

from bertsquad.squad.questions import Question
from bertsquad.squad.score import exact_match, f1, normalise, score


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The  Cat, a dog!", "cat dog"),
        ("U.S.A.", "usa"),
        ("well-known", "wellknown"),
        ("it's", "its"),
        ("an apple", "apple"),
        ("theatre and analysis", "theatre and analysis"),
        ("the, a. AN", ""),
        ("", ""),
        ("  \t\n ", ""),
        ("Café 4 °C", "café 4 °c"),
        ("“the” hat", "“ ” hat"),
        ("$1,000.50", "100050"),
        ("the_end", "theend"),
        ("two\u00a0words", "two words"),
    ],
)
def test_normalising_drops_case_punctuation_and_articles(answer: str, expected: str) -> None:
    assert normalise(answer) == expected


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        ("The Eiffel Tower!", "eiffel tower", True),
        ("Eiffel", "Eiffel Tower", False),
        ("the", "a", True),
        ("", "", True),
        ("cafe", "café", False),
    ],
)
def test_exact_match_compares_what_normalising_leaves(
    prediction: str, truth: str, expected: bool
) -> None:
    assert exact_match(prediction, truth) is expected


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        ("the cat sat", "A cat sat!", 1.0),
        ("the cat sat", "cat sat down", 0.8),  # precision 2/2, recall 2/3
        ("big red dog", "dog", 0.5),  # precision 1/3, recall 1/1
        ("dog dog", "dog", 2 / 3),  # a word counts as often as it stands in both
        ("dog dog dog", "dog dog cat", 2 / 3),
        ("sat cat", "cat sat", 1.0),  # order doesn't count
        ("cat", "dog", 0.0),
        ("cats", "cat", 0.0),
        ("the", "the", 0.0),  # nothing is left to share, although they match exactly
        ("", "cat", 0.0),
        ("cat", "", 0.0),
    ],
)
def test_f1_is_the_harmonic_mean_over_shared_words(
    prediction: str, truth: str, expected: float
) -> None:
    assert f1(prediction, truth) == pytest.approx(expected, abs=1e-15)


def question(name: str, *answers: str) -> Question:
    return Question(name, "?", 0, answers)


def test_each_question_scores_by_its_best_answer() -> None:
    questions = [
        question("a", "red", "the big red dog"),  # 1 and 0.5, the first is exact
        question("b", "cat", "cat sat down"),  # 0 and 0
        question("c", "one two three", "one two"),  # 0.5 and 2/3
    ]
    scored = score({"a": "Red", "b": "dog", "c": "one"}, questions)
    assert scored.total == 3
    assert scored.exact_match == pytest.approx(100 / 3)
    assert scored.f1_by_question == pytest.approx((1, 0, 2 / 3))
    assert scored.f1 == pytest.approx(100 * (1 + 0 + 2 / 3) / 3)


def test_only_the_questions_given_are_scored() -> None:
    questions = [question("a", "red"), question("b", "blue")]
    scored = score({"a": "red", "b": "green", "c": "unasked"}, questions[:1])
    assert (scored.exact_match, scored.f1, scored.total) == (100.0, 100.0, 1)


def test_no_question_at_all_has_no_score() -> None:
    scored = score({}, [])
    assert math.isnan(scored.f1)
    assert math.isnan(scored.exact_match)
    assert scored.total == 0


@needs_dev_set
def test_the_dev_set_s_own_answers_score_100() -> None:
    questions = dev_set().questions
    scored = score({q.id: q.answers[-1] for q in questions}, questions)
    assert (scored.exact_match, scored.total) == (100.0, 10_570)
    assert scored.f1 > 99.9  # an answer of articles alone has F1 0
