"""F1 must reach its target, and a subset must not be judged by luck."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shared_data import reading

from bertsquad.results.accuracy import figures_of, judge_f1, read_log, score_log
from bertsquad.results.reference import BUNDLED, Pair, Reference, compare
from bertsquad.results.result import (
    FAILED,
    NO_TARGET,
    PASSED,
    UNDECIDED,
    Verdict,
)
from bertsquad.results.statistics import upper_bound
from bertsquad.squad.datasets import Data
from bertsquad.squad.questions import load

WHAT = "minilm on pocket, cpu, fp32"


@pytest.mark.parametrize(("f1", "word"), [(90.0, PASSED), (89.965, PASSED), (89.964, FAILED)])
def test_the_whole_data_set_must_reach_the_target(f1: float, word: str) -> None:
    # The questions' spread would excuse a subset; it doesn't excuse the whole.
    verdict, bound = judge_f1(f1, 89.965, [0.0, 1.0] * 50, subset=False, what=WHAT)
    assert (verdict.word, bound) == (word, None)
    for part in (f"F1 {f1:.3f}", "target of 89.965", "100 questions", WHAT):
        assert part in verdict.reason


def test_a_subset_passes_as_long_as_its_bound_reaches_the_target() -> None:
    values = [1.0] * 14 + [0.0] * 6
    verdict, bound = judge_f1(70.0, 89.965, values, subset=True, what=WHAT)
    assert verdict.word == PASSED
    assert bound is not None
    assert bound == 100.0  # F1 can't be above it, wherever Student's bound may lie
    for part in ("subset", "F1 70.000", "99.9 %", "20 questions", "89.965", WHAT):
        assert part in verdict.reason


def test_a_subset_fails_once_its_bound_is_under_the_target() -> None:
    values = [0.5] * 19 + [0.7]
    expected = 100 * upper_bound(values, 0.999)
    assert expected < 60
    for target, word in ((expected + 1e-6, FAILED), (expected - 1e-6, PASSED)):
        verdict, bound = judge_f1(51.0, target, values, subset=True, what=WHAT)
        assert verdict.word == word
        assert bound == pytest.approx(expected)
        assert f"{expected:.3f}" in verdict.reason


def test_a_subset_of_equal_answers_is_judged_by_their_common_score() -> None:
    assert judge_f1(100.0, 99.0, [1.0] * 20, True, WHAT)[0].word == PASSED
    assert judge_f1(0.0, 1.0, [0.0] * 20, True, WHAT)[0].word == FAILED


@pytest.mark.parametrize("values", [[], [0.0]])
def test_fewer_than_two_questions_of_a_subset_give_no_verdict(values: list[float]) -> None:
    verdict, bound = judge_f1(0.0, 89.965, values, subset=True, what=WHAT)
    assert (verdict.word, bound) == (UNDECIDED, None)
    assert verdict.reason.startswith("subset: ")


@pytest.mark.parametrize("subset", [True, False])
def test_without_a_reference_f1_there_is_no_target(subset: bool) -> None:
    verdict, bound = judge_f1(12.5, None, [0.1, 0.15], subset, WHAT)
    assert (verdict.word, bound) == (NO_TARGET, None)
    assert "F1 12.500" in verdict.reason


def test_without_a_target_other_answers_tell_how_hard_the_questions_are() -> None:
    own, theirs = [1.0] * 7 + [0.0] * 10, [1.0] * 16 + [0.0]
    verdict, _ = judge_f1(41.2, None, own, True, WHAT, paired(own, theirs))
    assert verdict.word == NO_TARGET
    assert "minilm's answers have 94.1 (paired, 52.9 ± " in verdict.reason


CONTEXT = "Low tide is at six."


def ask(folder: Path, *answers: str | None) -> Data:
    """A data set of a question for each answer; None is that of a question without one."""
    qas: list[dict[str, Any]] = []
    for number, answer in enumerate(answers):
        given = [] if answer is None else [answer]
        spans = [{"text": text, "answer_start": CONTEXT.index(text)} for text in given]
        qas.append({"id": str(number), "question": "When?", "answers": spans})
        if None in answers:
            qas[-1]["is_impossible"] = answer is None
    file = folder / "questions.json"
    file.write_text(json.dumps({"data": [{"paragraphs": [{"context": CONTEXT, "qas": qas}]}]}))
    dataset = load(file)
    return Data(dataset, reading().build(dataset), reading(), folder / "a.npz", file, "")


def answer(data: Data, folder: Path, *margins: float) -> None:
    """An accuracy log of answers "six", each by so much better than no answer."""
    entries = []
    for sample, margin in enumerate(margins):
        logits = np.full((int(data.features.lengths[sample]), 2), -100, np.float32)
        logits[0] = 0
        logits[-3] = margin / 2  # behind it are the full stop and [SEP]
        entries.append({"qsl_idx": sample, "data": logits.tobytes().hex()})
    (folder / "mlperf_log_accuracy.json").write_text(json.dumps(entries))


def test_a_log_tells_what_was_answered(tmp_path: Path) -> None:
    data = ask(tmp_path, "six", "Low tide")
    answer(data, tmp_path, 5, 5)
    found = read_log(data, tmp_path, 2)
    assert found.texts == {"0": "six", "1": "six"}
    assert [one.id for one in found.questions] == ["0", "1"]
    assert found.score == score_log(data, tmp_path, 2)
    assert found.score.f1_by_question == (1.0, 0.0)
    figures = figures_of(found)
    assert figures.pop("warnings") == []
    assert figures.pop("doubt") is None
    assert set(figures.values()) == {None}


@pytest.mark.parametrize(
    ("threshold", "given"),
    [(None, ("six", "six", "")), (0.0, ("six", "six", "")), (-3.0, ("six", "", ""))],
)
def test_no_answer_wins_by_the_threshold_on_squad_2(
    tmp_path: Path, threshold: float | None, given: tuple[str, ...]
) -> None:
    data = ask(tmp_path, "six", None, None)
    answer(data, tmp_path, 5, 2, -2)
    found = read_log(data, tmp_path, 3, threshold)
    assert tuple(found.texts.values()) == given
    silent = given.count("")
    assert figures_of(found) == {
        "f1_has_answer": 100.0,
        "exact_match_has_answer": 100.0,
        "f1_no_answer": 50.0 * silent,
        "no_answer_count": 2,
        "null_threshold": threshold or 0.0,
        "best_f1": 100.0,
        "best_null_threshold": -5.0,
        "warnings": [],
        "doubt": None,
    }


def test_a_threshold_changes_nothing_where_every_question_has_an_answer(tmp_path: Path) -> None:
    data = ask(tmp_path, "six")
    answer(data, tmp_path, -50)
    assert read_log(data, tmp_path, 1, -100.0).texts["0"]


def paired(own: Sequence[float], theirs: Sequence[float], whole_f1: float = 83.5) -> Reference:
    ids = [str(number) for number in range(len(own))]
    pair = Pair(BUNDLED, "minilm", dict(zip(ids, theirs, strict=True)), whole_f1)
    found = compare(pair, ids, own)
    assert found is not None
    return found


def judged(own: Sequence[float], theirs: Sequence[float], target: float = 82.7) -> Verdict:
    f1 = 100 * sum(own) / len(own)
    return judge_f1(f1, target, own, True, WHAT, paired(own, theirs))[0]


def test_seven_right_answers_of_seventeen_fail_where_others_have_sixteen() -> None:
    own, theirs = [1.0] * 7 + [0.0] * 10, [1.0] * 16 + [0.0]
    alone, bound = judge_f1(100 * 7 / 17, 82.7, own, True, WHAT)
    assert alone.word == PASSED
    assert bound is not None
    assert bound > 82.7
    verdict = judged(own, theirs)
    assert verdict.word == FAILED
    for part in ("F1 41.176", "minilm", "94.1", "paired, 52.9 ± ", "over 17 questions", "82.700"):
        assert part in verdict.reason


def test_what_the_bound_leaves_open_is_undecided_and_names_both_figures() -> None:
    verdict = judged([1.0] * 9 + [0.0] * 7 + [1.0], [1.0] * 16 + [0.0])
    assert verdict.word == UNDECIDED
    for part in ("F1 58.824", "94.1 (paired, 35.3 ± ", "over 17 questions", "82.700", "likely"):
        assert part in verdict.reason


def test_hard_questions_excuse_a_model_that_answers_as_well_as_others() -> None:
    hard = [0.0] * 14 + [1.0] * 3
    assert judge_f1(100 * 3 / 17, 82.7, hard, True, WHAT)[0].word == FAILED
    assert judged(hard, hard).word == PASSED


def test_the_whole_data_set_is_judged_by_f1_alone_whatever_the_reference() -> None:
    own = [1.0] * 9 + [0.0]
    beside = paired(own, [1.0] * 10)
    for target, word in ((90.0, PASSED), (90.1, FAILED)):
        assert judge_f1(90.0, target, own, False, WHAT, beside)[0].word == word


@pytest.mark.parametrize("count", [2, 3, 4])
def test_single_questions_decide_nothing(count: int) -> None:
    assert judged([0.0] * count, [1.0] * count).word == UNDECIDED


def test_answers_that_are_all_alike_prove_nothing_of_a_better_model() -> None:
    # Both answer all of 17 easy questions: the one that should have 90 on the whole may well.
    for count, word in ((17, PASSED), (200, FAILED)):
        assert judged([1.0] * count, [1.0] * count, target=89.1).word == word


def test_a_target_says_where_it_comes_from_if_that_is_not_plain() -> None:
    verdict, _ = judge_f1(90.0, 89.0, [0.9] * 20, False, WHAT, None, "99 % of its own F1 in fp32")
    assert verdict.reason.endswith("the target of 89.000, 99 % of its own F1 in fp32")
