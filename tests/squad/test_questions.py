import json
import math
import subprocess
import sys
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
        ([], "found an empty list"),
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


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (place, value)
        for place in ("context", "id", "question", "text")
        for value in (None, 7, 1.5, True, ["Low tide"], {"text": "x"})
        if place != "id" or value not in (7, 1.5)
    ],
    ids=repr,
)
def test_text_that_is_not_a_string_is_refused(file: Path, place: str, value: object) -> None:
    content = document()
    {
        "context": content["data"][0]["paragraphs"][0],
        "id": first_qa(content),
        "question": first_qa(content),
        "text": first_qa(content)["answers"][0],
    }[place][place] = value
    assert "is JSON but not SQuAD v1.1" in refusal(write(file, content))


@pytest.mark.parametrize("place", ["context", "id", "question", "text", "title"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=repr)
def test_what_is_no_number_in_json_is_refused_with_its_line(
    file: Path, place: str, value: float
) -> None:
    """JSON has no NaN, although Python writes it."""
    content = row("one", CONTEXT, "six", 12)
    (content["answers"] if place == "text" else content)[place] = value
    file.write_text(json.dumps([content], indent=1), "utf-8")
    lines = file.read_text("utf-8").splitlines()
    (number,) = (n for n, line in enumerate(lines, 1) if "NaN" in line or "Infinity" in line)
    message = refusal(file)
    assert "is not SQuAD v1.1 JSON" in message
    assert f"line {number}: Unexpected symbol" in message


@pytest.mark.parametrize("start", [11, 13, -1, 12 - len(CONTEXT), 999, 12.0, "12", None], ids=repr)
def test_an_answer_that_is_not_at_its_offset_is_refused(file: Path, start: object) -> None:
    content = document()
    first_qa(content)["answers"][0]["answer_start"] = start
    message = refusal(write(file, content))
    assert f"the answer 'six' to question 'one' is not at its offset {start!r}" in message
    assert message.endswith("it stands at 12")


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


@pytest.mark.parametrize(
    ("context", "start", "counted"),
    [
        ("Low tide \U0001f30a at six.", 15, "UTF-16 units"),
        ("Ebbe fr\u00fch, at six.", 15, "bytes of UTF-8"),
        ("\u6771\u4eac \U0001f30a \u05e9\u05dc\u05d5\u05dd at six.", 24, "bytes of UTF-8"),
    ],
)
def test_offsets_that_count_something_else_are_told_from_wrong_ones(
    file: Path, context: str, start: int, counted: str
) -> None:
    content = rows_in([row("one", context, "six", start)])
    message = refusal(write(file, content))
    right = context.index("six")
    assert f"counts {counted}" in message
    assert message.endswith(f"give the offset in characters, {right}")
    assert load(write(file, rows_in([row("one", context, "six", right)])))


def test_an_answer_that_is_nowhere_in_its_context_is_refused(file: Path) -> None:
    content = document()
    first_qa(content)["answers"][0]["text"] = "seven"
    assert refusal(write(file, content)).endswith("its context doesn't hold it")


@pytest.mark.parametrize("context", ["at cafe\u0301 six", "at caf\u00e9\u00a0six"])
def test_an_answer_in_other_characters_is_told(file: Path, context: str) -> None:
    message = refusal(write(file, [row("one", context, "caf\u00e9 six", 3)]))
    assert "has it in other characters of Unicode" in message


def row(name: object, context: str, *answer: object, **more: object) -> dict[str, Any]:
    """A row as Hugging Face has it, with one answer and its offset, or with none."""
    texts, starts = [answer[:1], answer[1:]] if answer else [(), ()]
    answers = {"text": [*texts], "answer_start": [*starts]}
    return {
        "id": name,
        "title": "T",
        "context": context,
        "question": "?",
        "answers": answers,
        **more,
    }


def rows_in(rows: list[dict[str, Any]], form: str = "list") -> Any:
    return {"list": rows, "data": {"version": "1", "data": rows}}[form]


ROWS = [
    row("one", CONTEXT, "six", 12),
    row("two", "Noon.", "Noon", 0),
    row("three", CONTEXT, "\u6771\u4eac", 23),
]


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("form", ["list", "indented", "data", "lines", "lines in .json", "spaced"])
def test_rows_are_read_in_every_form_and_share_their_contexts(
    tmp_path: Path, form: str, encoding: str, ending: str
) -> None:
    file = tmp_path / ("rows.jsonl" if form in ("lines", "spaced") else "rows.json")
    lines = [json.dumps(one, ensure_ascii=False) for one in ROWS]
    text = {
        "list": json.dumps(ROWS),
        "indented": json.dumps(ROWS, indent=2, ensure_ascii=False),
        "data": json.dumps({"version": "1.0", "data": ROWS}, indent=1, ensure_ascii=False),
        "lines": "\n".join(lines),
        "lines in .json": "\n".join(lines) + "\n",
        "spaced": "\n\n".join(lines) + "\n  \n",
    }[form]
    file.write_bytes(text.replace("\n", ending).encode(encoding))
    data = load(file)
    assert data.contexts == (CONTEXT, "Noon.")
    assert data.questions == (
        Question("one", "?", 0, ("six",)),
        Question("two", "?", 1, ("Noon",)),
        Question("three", "?", 0, ("\u6771\u4eac",)),
    )
    assert not data.version_2


def test_a_row_may_have_its_answers_in_objects(file: Path) -> None:
    answers = [{"text": "six", "answer_start": 12}, {"text": "at six", "answer_start": 9}]
    data = load(write(file, [row("one", CONTEXT) | {"answers": answers}]))
    assert data.questions[0].answers == ("six", "at six")


@pytest.mark.parametrize("indent", [None, 1])
def test_one_row_alone_is_a_data_set(file: Path, indent: int | None) -> None:
    file.write_text(json.dumps(ROWS[0], indent=indent), "utf-8")
    assert [one.id for one in load(file).questions] == ["one"]


def test_a_row_without_answers_makes_a_file_one_of_squad_2(file: Path) -> None:
    data = load(write(file, [*ROWS, row("four", CONTEXT)]))
    assert data.version_2
    assert data.questions[-1] == Question("four", "?", 0, ())


def version_2(**changes: object) -> dict[str, Any]:
    """SQuAD v2.0: one question has an answer, and one has none."""
    qa = {"id": "no", "question": "Who?", "answers": [], "is_impossible": True, **changes}
    qa["plausible_answers"] = [{"text": "six", "answer_start": 999}]
    other = {"id": "yes", "question": "When?", "is_impossible": False}
    other["answers"] = [{"text": "six", "answer_start": 12}]
    articles = [{"title": "T", "paragraphs": [{"context": CONTEXT, "qas": [qa, other]}]}]
    return {"data": articles, "version": "v2.0"}


def test_a_file_of_squad_2_has_questions_without_an_answer(file: Path) -> None:
    data = load(write(file, version_2()))
    assert data.version_2
    assert data.questions == (Question("no", "Who?", 0, ()), Question("yes", "When?", 0, ("six",)))


@pytest.mark.parametrize("version", ["1.1", "v1.1", None])
def test_is_impossible_alone_says_that_it_is_squad_2(file: Path, version: object) -> None:
    assert load(write(file, version_2() | {"version": version})).version_2


def test_the_version_alone_says_that_it_is_squad_2_wherever_it_stands(file: Path) -> None:
    content = document()
    first_qa(content)["answers"] = []
    versions = ("v2.0", "V2.0", "2.0", 2.0, 2)
    ways = [{"version": one, "data": content["data"]} for one in versions]
    for order in (*ways, content | {"version": "v2.0"}):
        data = load(write(file, order))
        assert data.version_2
        assert data.questions[0].answers == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"answers": [{"text": "six", "answer_start": 12}]}, "has an answer, although its is_impo"),
        ({"is_impossible": False}, "has no answer, although its is_impossible is false"),
        ({"is_impossible": "yes"}, "should be true or false"),
        ({"is_impossible": 1}, "should be true or false"),
    ],
)
def test_a_question_that_contradicts_itself_is_refused(
    file: Path, changes: dict[str, Any], said: str
) -> None:
    assert said in refusal(write(file, version_2(**changes)))


@pytest.mark.parametrize("blank", ["", " ", "\n\t", "\u3000"], ids=ascii)
@pytest.mark.parametrize("start", [0, -1])
def test_a_blank_answer_is_refused_and_none_at_all_is_the_way_to_say_it(
    file: Path, blank: str, start: int
) -> None:
    message = refusal(write(file, [row("one", blank + CONTEXT, blank, start)]))
    assert "question 'one' has an empty answer" in message
    assert "no answers at all" in message


@pytest.mark.parametrize(
    ("number", "text"), [(7, "7"), (0, "0"), (-3, "-3"), (1.5, "1.5"), (2**70, str(2**70))]
)
def test_an_id_that_is_a_number_becomes_its_text(file: Path, number: object, text: str) -> None:
    assert load(write(file, [row(number, CONTEXT, "six", 12)])).questions[0].id == text
    content = document()
    first_qa(content)["id"] = number
    assert load(write(file, content)).questions[0].id == text
    both = [row(number, CONTEXT, "six", 12), row(text, CONTEXT, "six", 12)]
    assert f"question id {text!r} occurs twice" in refusal(write(file, both))


@pytest.mark.parametrize("half", ["\ud83d", "\ude00 ", "\ud83d\ud83d", "\ud83dx"], ids=ascii)
@pytest.mark.parametrize("form", ["list", "data"])
def test_half_a_surrogate_pair_stays_what_it_is(file: Path, form: str, half: str) -> None:
    """Nothing takes its place, so offsets and ids stay what they are."""
    rows = [row(f"{half}{n}", f"{half}at six", "six", len(half) + 3) for n in (1, 2)]
    data = load(write(file, rows_in(rows, form)))
    assert data.contexts == (f"{half}at six",)
    assert [one.id for one in data.questions] == [f"{half}1", f"{half}2"]


@pytest.mark.parametrize("opened", ["[", '{"a": '])
@pytest.mark.parametrize("place", ["whole", "data", "id", "more"])
def test_what_is_nested_deep_is_read_or_refused_in_a_sentence(
    file: Path, place: str, opened: str
) -> None:
    deep = opened * 50_000 + "1" + {"[": "]"}.get(opened, "}") * 50_000
    whole = json.dumps([row("one", CONTEXT, "six", 12) | {"more": 1}])
    file.write_text(
        {
            "whole": deep,
            "data": f'{{"data": {deep}}}',
            "id": whole.replace('"one"', deep),
            "more": whole.replace('"more": 1', f'"more": {deep}'),
        }[place],
        "utf-8",
    )
    if place == "more":
        assert len(load(file).questions) == 1
    else:
        assert len(refusal(file)) < len(str(file)) + 400


@pytest.mark.parametrize("digits", [400, 5_000, 2_000_000])
def test_an_id_of_too_many_digits_is_read_or_refused_in_a_sentence(file: Path, digits: int) -> None:
    whole = json.dumps([row("one", CONTEXT, "six", 12)])
    file.write_text(whole.replace('"one"', "9" * digits), "utf-8")
    if digits == 400:
        assert load(file).questions[0].id == "9" * 400
    else:
        assert len(refusal(file)) < len(str(file)) + 400


@pytest.mark.parametrize("cut", [1, 2, 40, 60, 80])
@pytest.mark.parametrize("form", ["list", "data"])
def test_where_a_file_breaks_off_is_told(file: Path, form: str, cut: int) -> None:
    text = json.dumps(rows_in(ROWS, form), indent=1)[:-cut]
    file.write_text(text, "utf-8")
    assert f"read up to line {text.count(chr(10)) + 1}: Incomplete" in refusal(file)


@pytest.mark.parametrize("form", ["list", "data"])
def test_a_fault_late_in_a_large_file_is_told_with_its_line(file: Path, form: str) -> None:
    rows = [row(n, CONTEXT, "six", 12) for n in range(5_000)]
    lines = json.dumps(rows_in(rows, form), indent=1).splitlines()
    at = lines.index(next(line for line in lines if '"id": 4000' in line))
    lines[at] = lines[at].replace(": ", " ")
    file.write_text("\n".join(lines), "utf-8")
    assert f"read up to line {at + 1}: Unexpected symbol" in refusal(file)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_line_that_is_no_json_is_named(tmp_path: Path, number: int) -> None:
    file = tmp_path / "rows.jsonl"
    lines = [json.dumps(one) for one in ROWS]
    for broken in (lines[number - 1][:-1], lines[number - 1][:60], "id,context"):
        file.write_text("\n".join([*lines[: number - 1], broken, *lines[number:]]), "utf-8")
        assert f"line {number}, which should be a row" in refusal(file)


def test_a_line_that_is_no_row_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    for line in ("[]", "7", '{"id": "a"}'):
        file.write_text(f"{json.dumps(ROWS[0])}\n{line}\n", "utf-8")
        assert refusal(file).endswith("(line 2)")


@pytest.mark.parametrize("key", ["id", "context", "question", "answers"])
@pytest.mark.parametrize("form", ["list", "data"])
def test_a_row_that_lacks_a_part_is_refused(file: Path, form: str, key: str) -> None:
    rows = [dict(one) for one in ROWS]
    del rows[1][key]
    assert f"found no '{key}'" in refusal(write(file, rows_in(rows, form)))


def test_texts_and_offsets_of_a_row_belong_together(file: Path) -> None:
    rows = [row("one", CONTEXT) | {"answers": {"text": ["six"], "answer_start": []}}]
    assert "1 texts and 0 offsets" in refusal(write(file, rows))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b"", "it is empty"),
        ("a.jsonl", b"", "it is empty"),
        ("a.jsonl", b" \r\n\n", "it is blank"),
        ("a.json", b"\xef\xbb\xbf\n", "it is blank"),
        ("a.json", json.dumps(ROWS).encode("utf-16"), "UTF-16: save it as UTF-8"),
        ("a.json", json.dumps(ROWS).encode("utf-16-be"), "no UTF-8"),
        ("a.json", json.dumps(ROWS, ensure_ascii=False).encode("gb18030"), "not UTF-8"),
        ("a.json.gz", b"\x1f\x8b\x08\x00", "gunzip"),
        ("a.zip", b"PK\x03\x04", "unpack"),
        ("a.parquet", b"PAR1\x15\x04", "to_json('questions.jsonl')"),
        ("a.arrow", b"ARROW1\x00\x00", "to_json('questions.jsonl')"),
        ("a.csv", b"id,context,question,answers\r\n1,2,3,4\r\n", "to_json('questions.jsonl')"),
        ("a.tsv", b"\xef\xbb\xbfid\tquestion\tanswer\n", "to_json('questions.jsonl')"),
        ("a.json", b"<!DOCTYPE html><p>question, context</p>", "a web page"),
        ("a.json", b"version https://git-lfs.github.com/spec/v1\noid 1\n", "git lfs pull"),
        ("a.json", b"id: 7", "line 1: "),
        ("a.json", b'[\n{"paragraphs": []},\n]', "line 3: Unexpected symbol ']'"),
        ("a.json", b'{\n"data": [\n{"paragraphs": []} {', "line 3: Unexpected symbol '{'"),
        ("a.json", b'{"data": [], 7: 1}', "line 1: "),
    ],
)
def test_another_format_is_told_with_the_way_out(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    message = refusal(file)
    assert said in message
    assert "is not SQuAD v1.1 JSON" in message or "found" in message


def test_a_large_file_is_read_piece_by_piece(tmp_path: Path) -> None:
    """What is longer than a piece is read whole, wherever the pieces end."""
    contexts = [f"{CONTEXT} {'tide ' * (50_000 * (n % 3))}\U0001f30a {n}" for n in range(40)]
    rows = [row(n, context, "six", 12) for n, context in enumerate(contexts)]
    for name, text in (
        ("rows.json", json.dumps(rows, indent=1, ensure_ascii=False)),
        ("rows.jsonl", "\n".join(map(json.dumps, rows))),
        ("one.json", json.dumps({"data": [{"paragraphs": [nested(one) for one in rows]}]})),
    ):
        file = tmp_path / name
        file.write_text(text, "utf-8")
        data = load(file)
        assert data.contexts == tuple(contexts)
        assert [one.id for one in data.questions] == [str(n) for n in range(40)]


def nested(one: dict[str, Any]) -> dict[str, Any]:
    """The paragraph of a row, as SQuAD has it."""
    answers = [{"text": "six", "answer_start": 12}]
    qa = {"id": one["id"], "question": one["question"], "answers": answers}
    return {"context": one["context"], "qas": [qa]}


#: Reads a file in a process of its own, and says how much memory that took at most, in MB.
PEAK = """
import re, sys
from pathlib import Path
from bertsquad.squad.questions import load
found = load(Path(sys.argv[1]))
# Not ru_maxrss, which begins with what the process had that started this one.
peak_kb = int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
print(len(found.questions), peak_kb // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
@pytest.mark.parametrize(
    "form", ["rows.jsonl", "list.json", "data.json", "articles.json", "article.json"]
)
def test_200_000_questions_are_read_in_little_memory(tmp_path: Path, form: str) -> None:
    file = tmp_path / form
    with file.open("w", encoding="utf-8") as out:
        first, last, between = {
            "rows.jsonl": ("", "", "\n"),
            "list.json": ("[", "]", ","),
            "data.json": ('{"version": "1.1", "data": [', "]}", ","),
            "articles.json": ('{"data": [', "]}", ","),
            "article.json": ('{"data": [{"paragraphs": [', "]}]}", ","),
        }[form]
        out.write(first)
        for number in range(200_000):
            context = f"{CONTEXT} {number // 5} {'tide and time ' * 40}"
            one = row(number, context, "six", 12)
            if form.startswith("article"):
                one = nested(one)
            if form == "articles.json":
                one = {"title": "T", "paragraphs": [one]}
            out.write((between if number else "") + json.dumps(one, ensure_ascii=False))
        out.write(last)
    assert file.stat().st_size > 120e6
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(file)], capture_output=True, text=True, check=True
    )
    count, megabytes = map(int, done.stdout.split())
    assert count == 200_000
    # The contexts are in two bytes a character, and those of articles aren't shared.
    assert megabytes < (480 if form.startswith("article") else 250)


@settings(max_examples=200, deadline=None)
@given(form=st.sampled_from(["squad", "list", "data", "lines"]), path=steps, value=anything)
def test_a_file_with_anything_anywhere_is_read_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, form: str, path: list[int], value: object
) -> None:
    rows = json.loads(json.dumps(ROWS))
    content: Any = {"squad": document(), "data": {"data": rows}}.get(form, rows)
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
    content = content if key != "whole" else value
    write(file, content)
    if form == "lines" and isinstance(content, list):
        file.write_text("\n".join(map(json.dumps, content)), "utf-8")
    try:
        read = load(file)
    except SuiteError as error:
        assert str(file) in str(error)
        assert "\n" not in str(error)
        return
    assert read.questions
    texts = [text for q in read.questions for text in (q.id, q.text, *q.answers)]
    assert {type(text) for text in (*read.contexts, *texts)} == {str}
