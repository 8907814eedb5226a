"""SQuAD's official score, equal to that of its `evaluate-v1.1.py` to the last digit."""

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bertsquad.squad.questions import Question


@dataclass(frozen=True)
class Score:
    """Exact match and F1 in per cent over `total` questions, and each question's F1 (0 to 1)."""

    exact_match: float
    f1: float
    total: int
    f1_by_question: tuple[float, ...]


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(answer: str) -> str:
    """`answer` in lower case, without ASCII punctuation and articles, with single blanks."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, truth: str) -> bool:
    """Whether the two normalise to the same text."""
    return normalise(prediction) == normalise(truth)


def f1(prediction: str, truth: str) -> float:
    """The harmonic mean of precision and recall over normalised words, 0 to 1."""
    predicted, true = normalise(prediction).split(), normalise(truth).split()
    same = sum((Counter(predicted) & Counter(true)).values())
    if same == 0:
        return 0.0
    precision, recall = 1.0 * same / len(predicted), 1.0 * same / len(true)
    return (2 * precision * recall) / (precision + recall)


def score(predictions: Mapping[str, str], questions: Iterable[Question]) -> Score:
    """Score `predictions` (question id to text) on exactly `questions`, best answer of each."""
    exact, f1s = 0, []
    for question in questions:
        prediction = predictions[question.id]
        exact += any(exact_match(prediction, answer) for answer in question.answers)
        f1s.append(max(f1(prediction, answer) for answer in question.answers))
    total = len(f1s)
    if total == 0:
        return Score(float("nan"), float("nan"), 0, ())
    # Summed one by one and in file order, as SQuAD's script does: the last digit depends on it.
    f1_sum = 0.0
    for value in f1s:
        f1_sum += value
    return Score(100.0 * exact / total, 100.0 * f1_sum / total, total, tuple(f1s))
