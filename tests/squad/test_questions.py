import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import POCKET_FILE, dev_set, needs_dev_set, pocket_features

from bertsquad.errors import SuiteError
from bertsquad.squad.datasets import DATASETS
from bertsquad.squad.questions import Question, load


@needs_dev_set
def test_the_dev_set_has_2067_contexts_and_keeps_file_order() -> None:
    assert len(dev_set().contexts) == 2_067
    assert dev_set().questions[0].id == "56be4db0acb8001400a502ec"
    indices = [question.context for question in dev_set().questions]
    assert indices == sorted(indices)


def test_the_bundled_set_is_as_large_as_its_table_says() -> None:
    entry = DATASETS["pocket"]
    questions = len(load(POCKET_FILE).questions)
    assert entry.samples == len(pocket_features())
    assert f"{questions} questions" in entry.description
    assert entry.quick_samples is None


CONTEXT = "Low tide at six, naïve 東京 tide at noon."


def document() -> dict[str, Any]:
    """Two articles that are right."""
    return {
        "version": "1.1",
        "data": [
            {
                "title": "Tides",
                "paragraphs": [
                    {
                        "context": CONTEXT,
                        "qas": [
                            {
                                "id": "one",
                                "question": "When is low tide?",
                                "answers": [
                                    {"text": "six", "answer_start": 12},
                                    {"text": "at six", "answer_start": 9},
                                ],
                            },
                            {
                                "id": "two",
                                "question": "Where?",
                                "answers": [{"text": "東京", "answer_start": 23}],
                            },
                        ],
                    },
                    {"context": "No one asks about this.", "qas": []},
                ],
            },
            {
                "title": "Noon",
                "paragraphs": [
                    {
                        "context": "Noon.",
                        "qas": [
                            {
                                "id": "three",
                                "question": "When?",
                                "answers": [{"text": "Noon", "answer_start": 0}],
                            }
                        ],
                    }
                ],
            },
        ],
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tides.json"


def write(file: Path, content: object) -> Path:
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_contexts_and_questions_are_read_in_file_order(file: Path) -> None:
    data = load(write(file, document()))
    assert data.contexts == (
        CONTEXT,
        "No one asks about this.",
        "Noon.",
    )
    assert data.questions == (
        Question("one", "When is low tide?", 0, ("six", "at six")),
        Question("two", "Where?", 0, ("東京",)),
        Question("three", "When?", 2, ("Noon",)),
    )


def test_a_file_that_is_not_ascii_reads_the_same(file: Path) -> None:
    escaped = load(write(file, document()))
    file.write_text(json.dumps(document(), ensure_ascii=False), encoding="utf-8")
    assert load(file) == escaped
    file.write_text(json.dumps(document(), ensure_ascii=False), encoding="utf-8-sig")
    assert load(file) == escaped


def refusal(file: Path) -> str:
    """The one sentence with which the file is refused; it names the file."""
    before = file.read_bytes() if file.is_file() else None
    with pytest.raises(SuiteError) as caught:
        load(file)
    message = str(caught.value)
    assert str(file) in message
    assert "\n" not in message
    assert before == (file.read_bytes() if file.is_file() else None)
    return message


def test_a_missing_file_is_named(file: Path) -> None:
    assert "can't be read" in refusal(file)


def test_a_folder_is_no_data_set(tmp_path: Path) -> None:
    assert "can't be read" in refusal(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no JSON",
        b'{"data": [',
        b"\xff\xfe\x00 not UTF-8",
        b"PK\x03\x04",
        b'{"data": []} {}',
        pytest.param(
            b"[" * 200_000,
        ),
    ],
    ids=["empty", "text", "cut-off", "bytes", "zip", "two-documents", "nested"],
)
def test_what_is_not_json_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert "is not SQuAD v1.1 JSON" in refusal(file)


@pytest.mark.parametrize(
    "content",
    [
        None,
        7,
        "data",
        [],
        {},
        {"data": None},
        {"data": 1},
        {"data": {"paragraphs": []}},
        {"data": ["article"]},
        {"data": [{"title": "no paragraphs"}]},
        {"data": [{"paragraphs": [{"qas": []}]}]},
        {"data": [{"paragraphs": [{"context": "no qas"}]}]},
        {"data": [{"paragraphs": [[]]}]},
    ],
    ids=lambda content: json.dumps(content),
)
def test_json_that_is_not_squad_is_refused(file: Path, content: object) -> None:
    message = refusal(write(file, content))
    assert "is JSON but not SQuAD v1.1" in message
    assert "paragraphs > context and qas" in message


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([], "found no 'data' in []"),
        ({"data": 1}, "found 1 as 'data', which should be a list"),
        ({"data": ["paragraphs"]}, "found no 'paragraphs' in 'paragraphs'"),
        ({"data": [7]}, "found no 'paragraphs' in 7"),
        (
            {"data": [{"paragraphs": [{"context": 7, "qas": []}]}]},
            "found 7 as 'context', which should be text",
        ),
    ],
)
def test_what_stands_where_squad_has_something_else_is_told(
    file: Path, content: object, found: str
) -> None:
    assert refusal(write(file, content)).endswith(found)


def first_qa(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["data"][0]["paragraphs"][0]["qas"][0]
    return found


@pytest.mark.parametrize("key", ["id", "question", "answers"])
def test_a_question_that_lacks_a_part_is_refused(file: Path, key: str) -> None:
    content = document()
    del first_qa(content)[key]
    assert f"found no '{key}'" in refusal(write(file, content))


@pytest.mark.parametrize("key", ["text", "answer_start"])
def test_an_answer_that_lacks_a_part_is_refused(file: Path, key: str) -> None:
    content = document()
    del first_qa(content)["answers"][1][key]
    assert f"found no '{key}'" in refusal(write(file, content))


@pytest.mark.parametrize("value", [None, 7, 1.5, True, ["Low tide"], {"text": "x"}], ids=repr)
@pytest.mark.parametrize("place", ["context", "id", "question", "text"])
def test_text_that_is_not_a_string_is_refused(file: Path, place: str, value: object) -> None:
    content = document()
    {
        "context": content["data"][0]["paragraphs"][0],
        "id": first_qa(content),
        "question": first_qa(content),
        "text": first_qa(content)["answers"][0],
    }[place][place] = value
    assert "is JSON but not SQuAD v1.1" in refusal(write(file, content))


@pytest.mark.parametrize("start", [11, 13, -1, 12 - len(CONTEXT), 999, 12.0, "12", None], ids=repr)
def test_an_answer_that_is_not_at_its_offset_is_refused(file: Path, start: object) -> None:
    content = document()
    first_qa(content)["answers"][0]["answer_start"] = start
    message = refusal(write(file, content))
    assert f"the answer 'six' to question 'one' is not at its offset {start!r}" in message


def test_an_empty_answer_is_refused(file: Path) -> None:
    content = document()
    first_qa(content)["answers"][0] = {"text": "", "answer_start": 999}
    assert "one" in refusal(write(file, content))


def test_a_question_without_an_answer_is_refused(file: Path) -> None:
    content = document()
    first_qa(content)["answers"] = []
    assert "question 'one' has no answer" in refusal(write(file, content))


@pytest.mark.parametrize("other", [1, 2], ids=["in its paragraph", "in another article"])
def test_an_id_that_occurs_twice_is_refused(file: Path, other: int) -> None:
    content = document()
    paragraphs = [p for article in content["data"] for p in article["paragraphs"]]
    [qa for p in paragraphs for qa in p["qas"]][other]["id"] = "one"
    assert "question id 'one' occurs twice" in refusal(write(file, content))


@pytest.mark.parametrize(
    "content",
    [
        {"data": []},
        {"data": [{"paragraphs": []}]},
        {"data": [{"paragraphs": [{"context": "Unasked.", "qas": []}]}]},
    ],
    ids=["no articles", "no paragraphs", "no questions"],
)
def test_a_file_without_questions_is_refused(file: Path, content: object) -> None:
    assert "has no questions" in refusal(write(file, content))


def test_one_question_is_a_data_set(file: Path) -> None:
    content = document()
    del content["data"][0]
    data = load(write(file, content))
    assert (data.contexts, data.questions) == (
        ("Noon.",),
        (Question("three", "When?", 0, ("Noon",)),),
    )


@pytest.mark.parametrize("blank", ["", "  \t\n", "\u200b"], ids=ascii)
def test_a_blank_question_is_read_as_it_is(file: Path, blank: str) -> None:
    content = document()
    first_qa(content)["question"] = blank
    assert load(write(file, content)).questions[0].text == blank


@pytest.mark.parametrize(
    "change",
    [
        {"answers": []},
        {"answers": [{"text": "", "answer_start": 0}]},
        {"answers": [{"text": "lines\n \ud800" + "?" * 5_000, "answer_start": "\n" * 5_000}]},
        {"answers": "lines\n \ud800" + "?" * 5_000},
        {},
    ],
    ids=["no answer", "an empty one", "one elsewhere", "no list of them", "twice"],
)
def test_a_refusal_stays_one_printable_line_whatever_the_id(
    file: Path, change: dict[str, Any]
) -> None:
    content = document()
    for qa in content["data"][0]["paragraphs"][0]["qas"]:
        qa["id"] = "two\nlines \ud800" + "!" * 5_000
    first_qa(content).update(change)
    message = refusal(write(file, content))
    assert message.encode("utf-8")
    assert len(message) < len(str(file)) + 300


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from("data paragraphs context qas id question answers text".split()), inner
        )
    ),
    max_leaves=8,
)


#: Which way to take at each step into a document; eight steps lead to what holds nothing more.
steps = st.lists(st.integers(0, 9), max_size=7) | st.lists(
    st.integers(0, 9), min_size=8, max_size=8
)


@settings(max_examples=200, deadline=None)
@given(path=steps, value=anything)
def test_a_file_with_anything_anywhere_is_read_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, path: list[int], value: object
) -> None:
    content: Any = document()
    place: Any = {"whole": content}
    key: Any = "whole"
    for step in path:
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner:
            break
        place, key = (
            inner,
            [*(inner if isinstance(inner, dict) else range(len(inner)))][step % len(inner)],
        )
    place[key] = value
    file = tmp_path_factory.getbasetemp() / "anything.json"
    write(file, content if key != "whole" else value)
    try:
        read = load(file)
    except SuiteError as error:
        assert str(file) in str(error)
        assert "\n" not in str(error)
        return
    assert read.questions
    texts = [text for q in read.questions for text in (q.id, q.text, *q.answers)]
    assert {type(text) for text in (*read.contexts, *texts)} == {str}
