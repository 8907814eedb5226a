"""Dataclasses come of JSON only where every field has its type, and the wrong one is named."""

import math
from dataclasses import dataclass, field
from typing import Any

import pytest

from bertsquad import typed
from bertsquad.typed import Misfit, build


@dataclass(frozen=True)
class Inner:
    name: str
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    count: int
    inner: Inner
    rate: float | None
    pair: tuple[float, float] | None = None
    some: tuple[int, ...] = ()
    more: list[Inner] = field(default_factory=list)
    by_name: dict[str, list[int]] = field(default_factory=dict)
    either: Inner | str = ""
    anything: Any = None


LEAST = {"count": 3, "inner": {"name": "x"}, "rate": None}


def test_fields_with_a_default_may_be_missing_and_other_keys_are_passed_over() -> None:
    assert build(Outer, LEAST | {"of a later version": 1}) == Outer(3, Inner("x"), None)


def test_every_kind_of_field_becomes_what_its_annotation_says() -> None:
    made = build(
        Outer,
        {
            "count": 3,
            "inner": {"name": "x", "share": 1},  # a whole number is a float's, too
            "rate": 2.5,
            "pair": [1, 2.5],
            "some": [1, 2],
            "more": [{"name": "y", "share": 0.5}],
            "by_name": {"a": [1]},
            "either": {"name": "z", "share": 0.5},
            "anything": [None],
        },
        whole=True,
    )
    assert made == Outer(
        3,
        Inner("x", 1),
        2.5,
        (1, 2.5),
        (1, 2),
        [Inner("y")],
        {"a": [1]},
        Inner("z"),
        [None],
    )
    assert build(Outer, LEAST | {"either": "words"}).either == "words"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"count": "3"}, "count is '3', and should be int"),
        ({"count": 3.0}, "count is 3.0, and should be int"),
        ({"count": True}, "count is True, and should be int"),
        ({"count": None}, "count is None, and should be int"),
        ({"rate": True}, "rate is True, and should be float"),
        ({"rate": "2.5"}, "rate is '2.5', and should be float"),
        ({"inner": ["x"]}, r"inner is ['x'], and should be Inner"),
        ({"inner": {}}, "inner name is missing"),
        ({"inner": {"name": 1}}, "inner name is 1, and should be str"),
        ({"pair": [1.0]}, "pair is [1.0], and should be"),
        ({"some": [1, "2"]}, "some is '2', and should be int"),
        ({"more": [{"name": "y"}, {}]}, "more name is missing"),
        ({"by_name": {"a": [None]}}, "by_name is None, and should be int"),
        ({"either": 5}, "either is 5, and should be str"),
    ],
)
def test_a_field_of_another_type_is_named(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(Misfit) as caught:
        build(Outer, LEAST | changes)
    assert str(caught.value).startswith(told)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("name", LEAST)
def test_a_field_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(Misfit, match=f"{name} is missing"):
        build(Outer, {key: value for key, value in LEAST.items() if key != name})


def test_what_must_be_whole_may_lack_nothing() -> None:
    with pytest.raises(Misfit, match="inner share is missing"):
        build(Outer, LEAST, whole=True)


@pytest.mark.parametrize("depth", [1, 63, 64])
def test_json_that_is_nested_like_any_real_one_is_read(depth: int) -> None:
    found = typed.parse("[" * depth + "]" * depth)
    for _ in range(depth - 1):
        (found,) = found
    assert found == []


@pytest.mark.parametrize("depth", [65, 100, 900, 1_000, 10_000, 100_000])
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")], ids=["list", "object"])
def test_json_that_is_nested_too_deep_for_its_readers_is_none(
    depth: int, opened: str, closed: str
) -> None:
    with pytest.raises(typed.NotJson, match="nested deeper than 64"):
        typed.parse(opened * depth + "1" + closed * depth)


@pytest.mark.parametrize("digits", ["9" * 309, "-" + "9" * 400, "1" * 5_000, "1" * 100_000])
def test_an_integer_that_no_float_holds_is_infinite(digits: str) -> None:
    assert abs(typed.parse(f"[{digits}]")[0]) == math.inf


def test_an_integer_that_a_float_holds_is_exact() -> None:
    assert typed.parse("[2085463073848966840, -1]") == [2085463073848966840, -1]
    assert type(typed.parse("1" * 300)) is int


@pytest.mark.parametrize("content", ["", "{", "nothing", b"\xff\xfe\x00", b"\x80", '"a\nb"'])
def test_what_is_no_json_is_told_so(content: str | bytes) -> None:
    with pytest.raises(typed.NotJson):
        typed.parse(content)


def test_where_it_is_not_strict_texts_may_hold_control_characters() -> None:
    assert typed.parse('"a\nb"', strict=False) == "a\nb"
