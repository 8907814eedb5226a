import csv
import io
import json

from bertsquad.results import formats

HEAD = ("case", "qps", "reason")
ODD = ("a|b", 31.25, 'two\nlines, a "quote" and a \x1b[31m')
ROWS = [ODD, ("c", None, "")]


def test_numbers_stand_below_each_other_and_nothing_odd_reaches_a_terminal() -> None:
    lines = formats.aligned(HEAD, [*ROWS, ("d", 7, "x")]).splitlines()
    assert [line.split()[:2] for line in lines[2:]] == [["c", "-"], ["d", "7"]]
    assert lines[1].index("31.25") + 5 == lines[3].index("7") + 1
    assert "\x1b" not in lines[1] and len(lines) == 4


def test_a_cell_of_markdown_stays_one_cell() -> None:
    lines = formats.markdown(HEAD, ROWS).splitlines()
    assert len(lines) == 4
    assert {line.replace(r"\|", "").count("|") for line in lines} == {4}
    assert set(lines[1]) == {"|", "-"} and len(lines[1]) == len(lines[0]) == len(lines[2])
    assert r"a\|b" in lines[2] and "\x1b" not in lines[2]


def test_csv_is_read_back_as_it_was() -> None:
    made = formats.comma_separated(HEAD, [*ROWS, (True, [1, 2], {"a": 1})])
    head, *found = csv.reader(io.StringIO(made))
    assert tuple(head) == HEAD
    assert found[0] == [str(one) for one in ODD]
    assert found[1] == ["c", "", ""]
    assert [json.loads(one) for one in found[2]] == [True, [1, 2], {"a": 1}]


def test_a_table_without_rows_has_its_head() -> None:
    assert formats.aligned(HEAD, []) == "case  qps  reason"
    assert formats.markdown(HEAD, []).count("\n") == 1
    assert formats.comma_separated(HEAD, []) == "case,qps,reason"


def test_json_holds_whatever_a_text_holds() -> None:
    value = {"a": "é\x1b\u00a0", "b": [1.5, None]}
    assert json.loads(formats.document(value)) == value
    first, second = formats.lines_of([value, value]).splitlines()
    assert json.loads(first) == json.loads(second) == value
    assert first.isascii() and first.isprintable()
