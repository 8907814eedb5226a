"""People's own questions, as they bring them: answered right, or refused in a sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from pytest_sessions import PytestSession, run_pytest

from bertsquad.squad.questions import load
from bertsquad.squad.score import score

#: Ten facts that the bundled model can find: the context, the question and its answer.
FACTS = (
    ("Low tide is at six in the morning.", "When is low tide?", "six in the morning"),
    ("The ferry to Orrin leaves from pier nine.", "Where does the ferry leave from?", "pier nine"),
    ("Anna Weber built the mill in 1782.", "Who built the mill?", "Anna Weber"),
    ("Anna Weber built the mill in 1782.", "When was the mill built?", "1782"),
    ("The bridge is 300 metres long.", "How long is the bridge?", "300 metres"),
    ("The bakery sells rye bread on Mondays.", "What does the bakery sell?", "rye bread"),
    ("The school was moved to Harbour Street.", "Where was the school moved?", "Harbour Street"),
    ("A storm destroyed the old lighthouse.", "What destroyed the lighthouse?", "A storm"),
    ("The mayor of Tarn is Paul Okoro.", "Who is the mayor of Tarn?", "Paul Okoro"),
    ("The river flows into the North Sea.", "Where does the river flow?", "the North Sea"),
)


def row(name: object, context: str, question: str, answer: str | None) -> dict[str, Any]:
    """A row as Hugging Face has it."""
    texts = [] if answer is None else [answer]
    starts = [context.index(text) for text in texts]
    answers = {"text": texts, "answer_start": starts}
    return {"id": name, "context": context, "question": question, "answers": answers}


ROWS = [row(f"fact {n}", *fact) for n, fact in enumerate(FACTS)]


def squad(rows: list[dict[str, Any]], version: str) -> bytes:
    """The rows as SQuAD's own JSON has them."""
    paragraphs = []
    for one in rows:
        texts, starts = one["answers"]["text"], one["answers"]["answer_start"]
        answers = [
            {"text": text, "answer_start": at} for text, at in zip(texts, starts, strict=True)
        ]
        qa = {"id": one["id"], "question": one["question"], "answers": answers}
        if version == "v2.0":
            qa |= {"is_impossible": not answers, "plausible_answers": []}
        paragraphs.append({"context": one["context"], "qas": [qa]})
    document = {"version": version, "data": [{"title": "Facts", "paragraphs": paragraphs}]}
    return json.dumps(document, indent=1, ensure_ascii=False).encode()


def lines(rows: list[dict[str, Any]], end: str = "\n") -> bytes:
    return "".join(json.dumps(one, ensure_ascii=False) + end for one in rows).encode()


def scripts() -> list[dict[str, Any]]:
    """Facts between letters of every width and direction."""
    around = (
        "\U0001f30a\U0001f468\u200d\U0001f469\u200d\U0001f467 {} \U0001f1e9\U0001f1ea",
        "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd. {} \u0645\u0631\u062d\u0628\u0627.",
        "\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3002 {} \u5317\u4eac\u3002",
        "na\u00efve cafe\u0301 \ufb01\u00a0{}\u3000\u1e9e\u0130",
    )
    return [
        row(f"{n} {context[:2]}", context.format(fact), question, answer)
        for n, (fact, question, answer) in enumerate(FACTS[:8])
        for context in [around[n % len(around)]]
    ]


IMPOSSIBLE = [*ROWS[:5], *(row(f"no {n}", FACTS[n][0], "Who ate it?", None) for n in (5, 6, 7))]

#: Files that are right, with their questions.
GOOD: dict[str, tuple[bytes, list[dict[str, Any]]]] = {
    "ten.json": (squad(ROWS, "1.1"), ROWS),
    "two.json": (squad(IMPOSSIBLE, "v2.0"), IMPOSSIBLE),
    "rows.jsonl": (b"\xef\xbb\xbf" + lines(IMPOSSIBLE, "\r\n"), IMPOSSIBLE),
    "scripts.jsonl": (lines(scripts()), scripts()),
    "numbers.json": (
        json.dumps({"data": [one | {"id": n} for n, one in enumerate(ROWS)]}).encode(),
        [one | {"id": str(n)} for n, one in enumerate(ROWS)],
    ),
}

#: Files that are wrong, and what the sentence must say.
BAD: dict[str, tuple[bytes, str]] = {
    "empty.json": (
        b"",
        "empty.json is not SQuAD v1.1 JSON, v2.0, or Hugging Face's rows: it is emp",
    ),
    "blank.jsonl": (b"\r\n \r\n", "blank.jsonl is not SQuAD"),
    "cut.jsonl": (lines(ROWS)[:-40], "line 10, which should be a row"),
    "twice.json": (
        json.dumps([ROWS[0] | {"id": 7}, ROWS[1] | {"id": "7"}]).encode(),
        "question id '7' occurs twice",
    ),
    "shifted.json": (
        squad([ROWS[0] | {"answers": {"text": ["six"], "answer_start": [16]}}], "1.1"),
        "is not at its offset 16: it stands at 15",
    ),
    "unanswered.json": (squad([row("none", *FACTS[0][:2], None)], "1.1"), "'none' has no answer"),
    "utf16.json": (squad(ROWS, "1.1").decode().encode("utf-16"), "UTF-16: save it as UTF-8"),
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> PytestSession:
    """A pytest session over all of the files."""
    folder = tmp_path_factory.mktemp("own") / "run"
    folder.mkdir()
    for name, (content, _) in [*GOOD.items(), *BAD.items()]:
        (folder / name).write_bytes(content)
    files = [word for name in [*GOOD, *BAD] for word in ("--dataset", name)]
    chosen = ("-k", "offline and accuracy", "--device", "cpu", "--output", "results")
    return run_pytest(folder, "--model", "minilm", *files, *chosen)


def case_of(name: str) -> str:
    return f"test_accuracy[minilm-{Path(name).stem}-offline-cpu-fp32]"


Answers = Callable[[str], dict[str, str]]


@pytest.fixture
def answers(ran: PytestSession) -> Answers:
    """Reads the predictions for a file."""

    def read(name: str) -> dict[str, str]:
        folder = Path(ran.result(case_of(name))["run_dir"])
        found: dict[str, str] = json.loads((folder / "predictions.json").read_bytes())
        return found

    return read


@pytest.mark.parametrize("name", GOOD)
def test_a_file_that_is_right_is_answered_and_scored(
    name: str, ran: PytestSession, answers: Answers
) -> None:
    _, rows = GOOD[name]
    assert ran.cases[case_of(name)].outcome == "passed", ran.out
    result, given = ran.result(case_of(name)), answers(name)
    assert list(given) == [one["id"] for one in rows]
    assert result["question_count"] == len(rows)
    dataset = load(ran.folder / name)
    scored = score(given, dataset.questions, dataset.version_2)
    assert (result["f1"], result["exact_match"]) == (scored.f1, scored.exact_match)
    contexts = {one["id"]: one["context"] for one in rows}
    for question, text in given.items():
        assert text in contexts[question]  # also "", which is no answer
    answerable = result["f1"] if result["f1_has_answer"] is None else result["f1_has_answer"]
    assert answerable > 60, ran.out
    assert result["warnings"] == []
    assert result["provenance"]["dataset_file"] == name


@pytest.mark.parametrize("name", ["two.json", "rows.jsonl"])
def test_questions_without_an_answer_are_scored_apart(name: str, ran: PytestSession) -> None:
    result = ran.result(case_of(name))
    assert result["no_answer_count"] == 3
    assert result["null_threshold"] == 0.0
    apart = 5 * result["f1_has_answer"] + 3 * result["f1_no_answer"]
    assert result["f1"] == pytest.approx(apart / 8)


def test_the_worst_answers_can_be_read_beside_the_log(ran: PytestSession) -> None:
    result = ran.result(case_of("scripts.jsonl"))
    shown = (Path(result["run_dir"]) / "worst_answers.txt").read_text("utf-8")
    assert shown.splitlines()[0].endswith("of 8 questions were not answered wholly right")
    assert all(line.isprintable() for line in shown.splitlines())


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_wrong_is_a_sentence(name: str, ran: PytestSession) -> None:
    case = ran.cases[case_of(name)]
    assert case.outcome == "failure"
    assert BAD[name][1] in case.message
    assert "Traceback" not in case.message
    said = next(line for line in ran.out.splitlines() if BAD[name][1] in line)
    assert name in said


def test_where_int8_is_asked_for_its_questions_are_left_out_whatever_is_selected(
    tmp_path: Path,
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ten.json").write_bytes(squad(ROWS, "1.1"))
    chosen = (
        "--model",
        "minilm",
        "--dataset",
        "ten.json",
        "--device",
        "cpu",
        "--output",
        "results",
    )
    asked = ("--precision", "fp32", "--precision", "int8", "-k", "offline and accuracy and fp32")
    done = run_pytest(tmp_path / "run", *chosen, *asked)
    result = done.result(case_of("ten.json"))
    assert (result["questions_left_out"], result["question_count"]) == (1, 9)
    assert result["repeat"].endswith("--precision int8")


def test_a_model_that_guesses_is_told_with_what_to_look_at(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ten.json").write_bytes(squad(ROWS, "1.1"))
    model = tiny.model(tmp_path / "tiny.onnx")
    chosen = ("-k", "offline and accuracy", "--device", "cpu", "--output", "results")
    done = run_pytest(tmp_path / "run", "--model", str(model), "--dataset", "ten.json", *chosen)
    (warning,) = done.result(case_of("ten.json").replace("minilm", "tiny"))["warnings"]
    assert "is about what guessing gives" in warning
    doubt = done.result(case_of("ten.json").replace("minilm", "tiny"))["doubt"]
    assert warning == f"{doubt['matter']}: {doubt['cure']}"
    assert doubt["matter"] in done.out
    assert f"  -> {doubt['cure']}" in done.out


def test_answers_that_cannot_be_written_fail_the_case_and_cost_no_figure(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ten.json").write_bytes(squad(ROWS, "1.1"))
    name = case_of("ten.json")
    folder = tmp_path / "run" / "results" / "accuracy-minilm-ten-offline-cpu-fp32"
    (folder.with_name(f"{folder.name}.unfinished") / "predictions.json").mkdir(parents=True)
    chosen = ("-k", "offline and accuracy", "--device", "cpu", "--output", "results")
    done = run_pytest(tmp_path / "run", "--model", "minilm", "--dataset", "ten.json", *chosen)
    assert done.cases[name].outcome == "failure"
    message = done.cases[name].message
    assert "predictions.json can't be written (Is a directory)" in message
    assert "--output" in message
    assert done.result(name)["f1"] > 60
    assert done.result(name)["answers"] == {}
