"""What a model answered, in files of its run folder: for SQuAD's own scripts, and for people."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bertsquad.errors import printable
from bertsquad.files import unwritable, write_whole
from bertsquad.results.guessing import Doubt
from bertsquad.squad.questions import Question
from bertsquad.squad.score import Score

PREDICTIONS, WORST = "predictions.json", "worst_answers.txt"
NAMES = (PREDICTIONS, WORST)

#: The worst answers that are shown, and the characters that are shown of a text.
MOST, LONGEST = 100, 300


@dataclass(frozen=True)
class Answered:
    """The questions that were wholly run, the text that answers each, by its id, and the score.

    Where questions may have no answer, there are the `null_threshold`, and the `best` F1 with the
    threshold that gives it. `doubt` says that the model may not be the one for these questions.
    """

    questions: tuple[Question, ...]
    texts: Mapping[str, str]
    score: Score
    null_threshold: float | None = None
    best: tuple[float, float] | None = None
    doubt: Doubt | None = None


@dataclass(frozen=True)
class Written:
    """The SHA-256 of each file that was written, and the sentence why another one wasn't."""

    checksums: dict[str, str]
    unwritten: str | None = None


def write(folder: Path, answered: Answered) -> Written:
    """Write both files into a run's folder, each whole or not at all."""
    checksums: dict[str, str] = {}
    for name, text in ((PREDICTIONS, predictions(answered)), (WORST, worst(answered))):
        # What is no character is written as its escape, as in result.json.
        content = text.encode("utf-8", "backslashreplace")
        try:
            write_whole(folder / name, partial(_fill, content=content))
        except OSError as error:
            why = unwritable(folder / name, error, "choose another folder with --output")
            return Written(checksums, str(why))
        checksums[name] = hashlib.sha256(content).hexdigest()
    return Written(checksums)


def _fill(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def predictions(answered: Answered) -> str:
    """The answers as SQuAD's evaluation scripts take them: JSON of each question's id and text."""
    return json.dumps(dict(answered.texts), indent=0, ensure_ascii=False) + "\n"


def worst(answered: Answered) -> str:
    """The answers that aren't wholly right, the worst first; a paragraph each.

    Every text has a line of its own, so that no script, whatever its direction and width, moves
    another text out of its place.
    """
    rated = zip(answered.questions, answered.score.f1_by_question, strict=True)
    wrong = sorted((pair for pair in rated if pair[1] < 1), key=lambda pair: pair[1])
    total = answered.score.total
    head = f"{len(wrong):,} of {total:,} questions were not answered wholly right"
    if len(wrong) > MOST:
        head += f"; the worst {MOST}"
    paragraphs = [
        "\n".join(_paragraph(number, one, answered.texts[one.id], f1))
        for number, (one, f1) in enumerate(wrong[:MOST], 1)
    ]
    return "\n\n".join([head, *paragraphs]) + "\n"


def _paragraph(number: int, question: Question, given: str, f1: float) -> Iterator[str]:
    yield f"{number}. F1 {100 * f1:.1f} %, question {_shown(question.id)}"
    yield f"   question  {_shown(question.text)}"
    yield f"   expected  {_shown(' | '.join(dict.fromkeys(question.answers))) or _NONE}"
    yield f"   given     {_shown(given) or _NONE}"


_NONE = "(no answer)"


def _shown(text: str) -> str:
    """A text in one line, its begin if it is long."""
    cut = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
    return printable(cut)
