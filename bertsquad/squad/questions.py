"""SQuAD's questions: contexts, and the answers that people gave, read from a file and checked."""

import re
import reprlib
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from bertsquad.errors import SuiteError
from bertsquad.files import unreadable
from bertsquad.squad.forms import Asked, Misfit, Passages
from bertsquad.typed import NotJson


@dataclass(frozen=True, slots=True)
class Question:
    """One question, the index of its context, and the answers that people gave to it.

    It has no answers where its context holds none, which there is in SQuAD v2.0 alone.
    """

    id: str
    text: str
    context: int
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dataset:
    """`contexts` and `questions`, in the file's order; `version_2` says by which SQuAD's rules."""

    contexts: tuple[str, ...]
    questions: tuple[Question, ...]
    version_2: bool = False


def load(path: Path) -> Dataset:
    """Read SQuAD v1.1 or v2.0 JSON, or rows as Hugging Face has them.

    SuiteError names the file and what is wrong with it.
    """
    try:
        _refuse_other_formats(path)
        with path.open(encoding="utf-8-sig") as file:
            return _collected(path, Passages(file, path))
    except OSError as error:
        raise unreadable(path, error, "give a file of questions") from error
    except UnicodeDecodeError as error:
        raise _not_json(path, f"it is not UTF-8 ({error.reason}): save it as UTF-8") from error
    except NotJson as error:
        raise _not_json(path, str(error)) from error
    except Misfit as error:
        raise SuiteError(
            f"{path} is JSON but not SQuAD v1.1, v2.0 or Hugging Face's rows: expected data > "
            "paragraphs > context and qas with id, question and answers, or rows with all of "
            f"these, found {error}"
        ) from error


def _not_json(path: Path, why: str) -> SuiteError:
    return SuiteError(f"{path} is not SQuAD v1.1 JSON, v2.0, or Hugging Face's rows: {why}")


#: How files begin that people may take for rows, and what they are.
_MAGIC = (
    (b"\x1f\x8b", "it is compressed: unpack it with gunzip"),
    (b"PK\x03\x04", "it is a zip file: unpack it"),
    (b"PAR1", "it is Parquet"),
    (b"ARROW1", "it is Arrow"),
    (b"\xff\xff\xff\xff", "it is Arrow"),
    (b"\xff\xfe", "it is UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "it is UTF-16: save it as UTF-8"),
    (b"version https://git-lfs", "it is a pointer of Git LFS: get the file with git lfs pull"),
    (b"<", "it is a web page or XML: download the file itself"),
)
_CONVERT = "`datasets` makes rows of it: load_dataset(...)[split].to_json('questions.jsonl')"


def _refuse_other_formats(path: Path) -> None:
    """SuiteError for what is no text or no JSON at all, and what to do with it."""
    with path.open("rb") as file:
        begin = file.read(4096)
    for magic, what in _MAGIC:
        if begin.startswith(magic):
            raise _not_json(path, what if ":" in what else f"{what}; {_CONVERT}")
    text = begin.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text and len(begin) < 4096:
        raise _not_json(path, "it is empty" if not begin else "it is blank")
    if b"\0" in text:
        raise _not_json(path, "it is no UTF-8 text")
    if text and text[:1] not in b"{[" and _is_table(text):
        raise _not_json(path, f"it is a table with columns; {_CONVERT}")


def _is_table(text: bytes) -> bool:
    """Whether text begins as CSV or TSV does, with the names of columns."""
    columns = re.split(rb"[,;\t]", text.splitlines()[0])
    return len(columns) > 1 and b"question" in [name.strip(b" '\"").lower() for name in columns]


def _collected(path: Path, passages: Passages) -> Dataset:
    contexts: list[str] = []
    of_rows: dict[str, int] = {}  # rows tell a context again for each of its questions
    questions: list[Question] = []
    seen: set[str] = set()
    unanswered = None
    version_2 = False
    for passage in passages:
        index = len(contexts)
        if passage.of_row:
            index = of_rows.setdefault(passage.context, index)
        if index == len(contexts):
            contexts.append(passage.context)
        for asked in passage.asked:
            _check(path, asked, contexts[index])
            if asked.id in seen:
                raise SuiteError(f"{path}: question id {asked.id!r:.60} occurs twice")
            seen.add(asked.id)
            if not asked.answers:
                unanswered = unanswered or asked.id
            version_2 |= asked.impossible is not None or (passage.of_row and not asked.answers)
            texts = tuple(text for text, _ in asked.answers)
            questions.append(Question(asked.id, asked.question, index, texts))
    version_2 |= passages.version.lower().removeprefix("v").startswith("2")
    if unanswered is not None and not version_2:
        raise SuiteError(
            f"{path}: question {unanswered!r:.60} has no answer, but in SQuAD v1.1 every question "
            'has one: give a v1.1 file, or say that it is v2.0 ("version": "v2.0")'
        )
    if not questions:
        raise SuiteError(f"{path} has no questions")
    return Dataset(tuple(contexts), tuple(questions), version_2)


def _check(path: Path, asked: Asked, context: str) -> None:
    """SuiteError unless each answer stands in the context at its offset, and the file agrees."""
    question = f"question {asked.id!r:.60}"
    if asked.impossible is not None and asked.impossible == bool(asked.answers):
        found = "has an answer" if asked.answers else "has no answer"
        said = str(asked.impossible).lower()
        raise SuiteError(
            f"{path}: {question} {found}, although its is_impossible is {said}: change one of them"
        )
    for text, start in asked.answers:
        if not text.strip():
            raise SuiteError(
                f"{path}: {question} has an empty answer: where its context holds none, give it no "
                "answers at all, as SQuAD v2.0 does"
            )
        if type(start) is int and start >= 0 and context.startswith(text, start):
            continue
        raise SuiteError(
            f"{path}: the answer {text!r:.60} to {question} is not at its offset "
            f"{reprlib.repr(start)}{_instead(context, text, start)}"
        )


#: Units in which other tools count offsets: their name, the encoding, and its bytes a unit.
_UNITS = (("UTF-16 units", "utf-16-le", 2), ("bytes of UTF-8", "utf-8", 1))


def _instead(context: str, text: str, start: object) -> str:
    """Where an answer stands, since it isn't at `start`, and what that may have counted."""
    if text not in context:
        if unicodedata.normalize("NFKC", text) in unicodedata.normalize("NFKC", context):
            return ": its context has it in other characters of Unicode (NFC, NFD, blanks)"
        return ": its context doesn't hold it"
    if type(start) is int and start >= 0:
        for name, encoding, size in _UNITS:
            before = context.encode(encoding, "surrogatepass")[: size * start]
            at = len(before.decode(encoding, "ignore"))
            if context.startswith(text, at):
                return f", which counts {name}: give the offset in characters, {at}"
    return f": it stands at {context.index(text)}"
