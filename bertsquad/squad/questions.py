"""SQuAD v1.1's JSON: contexts, questions and the answers that people gave."""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bertsquad import typed
from bertsquad.errors import SuiteError
from bertsquad.files import unreadable


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


def load(path: Path) -> Dataset:
    """Read a SQuAD v1.1 JSON file; SuiteError names the file and what is wrong with it."""
    try:
        document = typed.parse(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from error
    except typed.NotJson as error:
        raise SuiteError(f"{path} is not SQuAD v1.1 JSON: {error}") from error
    contexts: list[str] = []
    questions: list[Question] = []
    seen: set[str] = set()
    try:
        for article in _part(document, "data", list):
            for paragraph in _part(article, "paragraphs", list):
                context = _part(paragraph, "context", str)
                for qa in _part(paragraph, "qas", list):
                    answers = _part(qa, "answers", list)
                    question = Question(
                        id=_part(qa, "id", str),
                        text=_part(qa, "question", str),
                        context=len(contexts),
                        answers=tuple(_part(answer, "text", str) for answer in answers),
                    )
                    for answer in answers:
                        _check_span(path, question.id, context, answer)
                    if not answers:
                        raise SuiteError(
                            f"{path}: question {question.id!r:.60} has no answer, but "
                            "in SQuAD v1.1 every question has one: give a v1.1 file"
                        )
                    if question.id in seen:
                        raise SuiteError(f"{path}: question id {question.id!r:.60} occurs twice")
                    seen.add(question.id)
                    questions.append(question)
                contexts.append(context)
    except TypeError as error:
        raise SuiteError(
            f"{path} is JSON but not SQuAD v1.1: expected data > paragraphs > context and qas "
            f"with id, question and answers, found {error}"
        ) from error
    if not questions:
        raise SuiteError(f"{path} has no questions")
    return Dataset(tuple(contexts), tuple(questions))


_Kind = TypeVar("_Kind")


def _part(holder: object, key: str, kind: type[_Kind]) -> _Kind:
    """What a JSON object holds under `key`; TypeError says what is there instead of a `kind`."""
    if not isinstance(holder, dict) or key not in holder:
        raise TypeError(f"no {key!r} in {reprlib.repr(holder)}")
    value = holder[key]
    if not isinstance(value, kind):
        wanted = "text" if kind is str else "a list"
        raise TypeError(f"{reprlib.repr(value)} as {key!r}, which should be {wanted}")
    return value


def _check_span(path: Path, question: str, context: str, answer: Mapping[str, object]) -> None:
    """SuiteError unless the answer stands in the context at its offset."""
    text, start = _part(answer, "text", str), _part(answer, "answer_start", object)
    if not text:
        raise SuiteError(f"{path}: question {question!r:.60} has an empty answer")
    if not isinstance(start, int) or start < 0 or context[start : start + len(text)] != text:
        raise SuiteError(
            f"{path}: the answer {text!r:.60} to question {question!r:.60} is not at its offset "
            f"{reprlib.repr(start)}"
        )
