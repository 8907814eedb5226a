"""Exact match and F1 are those of SQuAD's official script."""

import json
import math
import re
import string
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_data import dev_set, needs_dev_set

from bertsquad.squad.questions import Question
from bertsquad.squad.score import Share, best_threshold, exact_match, f1, normalise, score


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


def words(text: str) -> list[str]:
    """What SQuAD's scripts compare: words without case, punctuation and articles."""
    text = "".join(char for char in text.lower() if char not in string.punctuation)
    return re.sub(r"\b(?:a|an|the)\b", " ", text).split()


def rated(prediction: str, answers: tuple[str, ...]) -> tuple[bool, float]:
    """One question by the rules of SQuAD v2.0, told anew in a few lines."""
    given_words = words(prediction)
    truths = [words(answer) for answer in answers if words(answer)] or [[]]
    f1s = []
    for truth in truths:
        common = (Counter(given_words) & Counter(truth)).total()
        lengths = len(given_words) + len(truth)
        f1s.append(2 * common / lengths if lengths else 1.0)
    return given_words in truths, max(f1s)


texts = st.lists(
    st.sampled_from(["the", "A", "tide", "Tide!", "six", "6", "-", "\u6771\u4eac", ""]), max_size=4
).map(" ".join)
asked = st.lists(st.tuples(st.lists(texts, max_size=3).map(tuple), texts), min_size=1, max_size=8)


@given(asked)
def test_squad_2_is_scored_as_its_rules_say_with_and_without_an_answer(
    pairs: list[tuple[tuple[str, ...], str]],
) -> None:
    questions = [question(str(n), *answers) for n, (answers, _) in enumerate(pairs)]
    found = score({str(n): given for n, (_, given) in enumerate(pairs)}, questions, version_2=True)
    expected = [rated(given, answers) for answers, given in pairs]
    assert found.f1_by_question == pytest.approx([value for _, value in expected])
    assert found.has_answer is not None
    assert found.no_answer is not None
    kinds = {True: found.has_answer, False: found.no_answer}
    for kind, share in [*kinds.items(), (None, found)]:
        chosen = [
            one
            for one, (answers, _) in zip(expected, pairs, strict=True)
            if kind is None or bool(answers) is kind
        ]
        assert share.total == len(chosen)
        if chosen:
            assert share.exact_match == pytest.approx(100 * sum(e for e, _ in chosen) / len(chosen))
            assert share.f1 == pytest.approx(100 * sum(f for _, f in chosen) / len(chosen))
        else:
            assert math.isnan(share.f1)


def test_an_empty_answer_is_right_where_there_is_none_and_wrong_where_there_is_one() -> None:
    questions = [question("none"), question("some", "six")]
    silent = score({"none": "", "some": ""}, questions, version_2=True)
    assert (silent.f1, silent.exact_match) == (50.0, 50.0)
    assert silent.has_answer == Share(0.0, 0.0, 1)
    assert silent.no_answer == Share(100.0, 100.0, 1)
    bold = score({"none": "six", "some": "six"}, questions, version_2=True)
    assert bold.has_answer == Share(100.0, 100.0, 1)
    assert bold.no_answer == Share(0.0, 0.0, 1)


def test_squad_1_tells_no_shares() -> None:
    found = score({"a": "the"}, [question("a", "the")])
    assert (found.f1, found.exact_match) == (0.0, 100.0)  # an article alone, by v1.1's script
    assert found.has_answer is None
    assert found.no_answer is None


GOLDEN_METRICS = Path(__file__).resolve().parents[1] / "golden" / "metrics.json"


@pytest.mark.parametrize("name", ["plain", "with_threshold", "answerable_alone"])
def test_squad_2_is_scored_as_transformers_does(name: str) -> None:
    golden = json.loads(GOLDEN_METRICS.read_bytes())
    expected = golden[name]
    asked = golden["questions"]
    questions = [
        question(one, *told["answers"])
        for one, told in asked.items()
        if told["answers"] or "NoAns_total" in expected
    ]
    threshold = expected.get("threshold", 1.0)
    given = {
        one: "" if told["no_answer_probability"] > threshold else told["given"]
        for one, told in asked.items()
    }
    found = score(given, questions, version_2=True)
    assert found.has_answer is not None
    assert found.no_answer is not None
    for prefix, share in {
        "": found,
        "HasAns_": found.has_answer,
        "NoAns_": found.no_answer,
    }.items():
        assert share.total == expected.get(f"{prefix}total", 0)
        if share.total:
            assert share.f1 == expected[f"{prefix}f1"]
            assert share.exact_match == expected[f"{prefix}exact"]


def test_the_best_threshold_is_that_of_transformers() -> None:
    golden = json.loads(GOLDEN_METRICS.read_bytes())
    asked, expected = golden["questions"], golden["with_probabilities"]
    questions = [question(one, *told["answers"]) for one, told in asked.items()]
    given = {one: told["given"] for one, told in asked.items()}
    odds = {one: told["no_answer_probability"] for one, told in asked.items()}
    best, threshold = best_threshold(given, odds, questions)
    assert best == pytest.approx(expected["best_f1"], abs=1e-12)
    assert threshold == expected["best_f1_thresh"]


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(-3, 3)), min_size=1))
def test_no_threshold_scores_more_than_the_best(told: list[tuple[bool, bool, int]]) -> None:
    """Each question has an answer or none; the model finds it, or is wrong, at these odds."""
    questions = [question(str(n), *(["six"] * some)) for n, (some, _, _) in enumerate(told)]
    given = {str(n): "six" if right else "ten" for n, (_, right, _) in enumerate(told)}
    odds = {str(n): float(one) for n, (_, _, one) in enumerate(told)}
    best, threshold = best_threshold(given, odds, questions)

    def reached(limit: float) -> float:
        chosen = {name: "" if odds[name] > limit else text for name, text in given.items()}
        return score(chosen, questions, version_2=True).f1

    assert best == pytest.approx(reached(threshold))
    assert best == pytest.approx(max(map(reached, range(-5, 5))))


def test_what_no_threshold_lets_answer_counts_as_unanswered() -> None:
    questions = [question("none"), question("some", "six")]
    given = {"none": "six", "some": "six"}
    for odds in (math.inf, math.nan):
        best = best_threshold(given, {"none": odds, "some": -2.0}, questions)
        assert best == (100.0, -2.0)
        assert best_threshold(given, dict.fromkeys(given, odds), questions) == (50.0, -1.0)
