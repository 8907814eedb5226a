"""A model that answers no better than by guessing is told, and one that can read never is."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from shared_data import POCKET, pocket, pocket_features, reading

from bertsquad.results.guessing import FEWEST, doubt, look

Logits = dict[int, NDArray[np.float32]]

#: The first questions of pocket, and the windows that they have.
QUESTIONS = 20
WINDOWS = int(np.searchsorted(pocket_features().question, QUESTIONS))


@cache
def minilm(change: Callable[[NDArray[np.int64]], NDArray[np.int64]] | None = None) -> Logits:
    """What the bundled model says of the first windows; `change` gives it other ids."""
    session = onnxruntime.InferenceSession(POCKET / "minilm-squad.onnx")
    names = [one.name for one in session.get_inputs()]
    found: Logits = {}
    for window in range(WINDOWS):
        ids, *others = pocket_features().batch([window])
        feed = dict(zip(names, (change(ids) if change else ids, *others), strict=True))
        start, end = session.run(None, feed)
        found[window] = np.stack([start[0], end[0]], 1)
    return found


def other_ids(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same tokens by another vocabulary, whose special tokens alone are the same."""
    others = np.random.default_rng(3).permutation(np.arange(1000, 30_522))
    changed: NDArray[np.int64] = np.where(ids < 1000, ids, others[np.maximum(ids, 1000) - 1000])
    return changed


def noise(seed: int) -> Logits:
    rng = np.random.default_rng(seed)
    return {n: rng.standard_normal(one.shape, np.float32) for n, one in minilm().items()}


def swapped(logits: Logits) -> Logits:
    return {sample: one[:, ::-1] for sample, one in logits.items()}


def said(logits: Logits, count: int = QUESTIONS, version_2: bool = False) -> str | None:
    dataset = replace(pocket(), version_2=version_2)
    texts = reading().texts(dataset, pocket_features())
    found = look(dataset, pocket_features(), texts, dataset.questions[:count], logits)
    return None if found is None else str(found)


@pytest.mark.parametrize("count", [FEWEST, QUESTIONS])
@pytest.mark.parametrize("version_2", [False, True])
def test_a_model_that_can_read_is_never_told(count: int, version_2: bool) -> None:
    assert said(minilm(), count, version_2) is None


@pytest.mark.parametrize("seed", range(5))
def test_random_answers_are_told_with_the_likely_causes(seed: int) -> None:
    found = said(noise(seed))
    assert found is not None
    for part in ("first 20 questions", "guessing", "tokeniser", "cased or uncased", "trained"):
        assert part in found


def test_a_model_with_another_vocabulary_is_told() -> None:
    found = said(minilm(other_ids))
    assert found is not None
    assert "vocabulary" in found


@pytest.mark.parametrize("count", [FEWEST, QUESTIONS])
def test_start_and_end_mixed_up_are_told_with_the_option(count: int) -> None:
    found = said(swapped(minilm()), count)
    assert found is not None
    assert "--outputs" in found
    assert "the other way round" in found


def test_a_model_that_finds_no_answers_is_told_by_its_best_spans_alone() -> None:
    """Its first token wins by far, as where no answer is best; the threshold is for that."""
    silent = {n: one.copy() for n, one in minilm().items()}
    for one in silent.values():
        one[0] = 100
    assert said(silent, version_2=True) is None


def test_a_few_questions_say_nothing() -> None:
    assert said(noise(1), FEWEST - 1) is None
    assert doubt(0.0, 0.0, 5.0, FEWEST - 1) is None


@pytest.mark.parametrize(
    ("f1", "guessed", "is_told"),
    [
        (1.6, 4.7, True),
        (12.6, 4.7, True),
        (25.0, 4.7, False),
        (35.0, 30.0, True),  # of contexts so short that guesses are good
        (60.0, 30.0, False),
    ],
)
def test_guessing_is_measured_by_what_guesses_give(
    f1: float, guessed: float, is_told: bool
) -> None:
    assert (doubt(f1, f1, guessed, 100) is not None) is is_told


def test_luck_is_not_called_mixed_up() -> None:
    found = doubt(0.0, 12.0, 5.0, FEWEST)
    assert found is not None
    assert "other way round" not in found.matter
