"""SQuAD v1.1: its JSON, and the official score.

`score` follows SQuAD's `evaluate-v1.1.py` digit for digit.
"""

import json
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bertsquad.errors import SuiteError


@dataclass(frozen=True)
class Question:
    """One question, the index of its context, and the answers that people gave to it."""

    id: str
    text: str
    context: int
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """A SQuAD v1.1 file: `contexts` in file order, `questions` in file order."""

    contexts: tuple[str, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Score:
    """Exact match and F1 in per cent over `total` questions, and each question's F1 (0 to 1)."""

    exact_match: float
    f1: float
    total: int
    f1_by_question: tuple[float, ...]


def load(path: Path) -> Dataset:
    """Read a SQuAD v1.1 JSON file; SuiteError names the file and what is wrong with it."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise SuiteError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SuiteError(f"{path} is not SQuAD v1.1 JSON: {error}") from error
    contexts: list[str] = []
    questions: list[Question] = []
    seen: set[str] = set()
    try:
        for article in document["data"]:
            for paragraph in article["paragraphs"]:
                context = _text(paragraph["context"])
                for qa in paragraph["qas"]:
                    question = Question(
                        id=_text(qa["id"]),
                        text=_text(qa["question"]),
                        context=len(contexts),
                        answers=tuple(_text(answer["text"]) for answer in qa["answers"]),
                    )
                    for answer in qa["answers"]:
                        _check_span(path, question.id, context, answer)
                    if not question.answers:
                        raise SuiteError(f"{path}: question {question.id} has no answer")
                    if question.id in seen:
                        raise SuiteError(f"{path}: question id {question.id} occurs twice")
                    seen.add(question.id)
                    questions.append(question)
                contexts.append(context)
    except (KeyError, TypeError) as error:
        raise SuiteError(
            f"{path} is JSON but not SQuAD v1.1: expected data > paragraphs > context and qas "
            f"with id, question and answers, found no {error}"
        ) from error
    if not questions:
        raise SuiteError(f"{path} has no questions")
    return Dataset(tuple(contexts), tuple(questions))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text where {value!r:.40} stands")
    return value


def _check_span(path: Path, question: str, context: str, answer: Mapping[str, object]) -> None:
    text, start = answer["text"], answer["answer_start"]
    assert isinstance(text, str)
    if not text:
        raise SuiteError(f"{path}: question {question} has an empty answer")
    if not isinstance(start, int) or start < 0 or context[start : start + len(text)] != text:
        raise SuiteError(
            f"{path}: the answer {text!r:.60} to question {question} is not at its offset {start}"
        )


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(answer: str) -> str:
    """Lower case, no ASCII punctuation, no articles, single blanks."""
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
