"""Names of cases."""

import pytest

from bertsquad.results.names import labels, parts, pattern, place, shortened


@pytest.mark.parametrize(
    ("case", "found"),
    [
        ("minilm-pocket-offline-cpu-fp32", ("minilm-pocket", "offline", "cpu", "fp32")),
        (
            "my-offline-bert-squad-server-cuda-fp16",
            ("my-offline-bert-squad", "server", "cuda", "fp16"),
        ),
        (
            "a-server-offline-multistream-cpu-int8",
            ("a-server-offline", "multistream", "cpu", "int8"),
        ),
        ("something else", ("something else", "", "", "")),
        ("", ("", "", "", "")),
    ],
)
def test_a_name_is_taken_apart_at_its_last_scenario(
    case: str, found: tuple[str, str, str, str]
) -> None:
    assert parts(case) == found


def test_cases_stand_by_model_scenario_device_and_mode() -> None:
    ordered = [
        ("a-pocket-offline-cpu-fp32", "accuracy"),
        ("a-pocket-offline-cpu-fp32", "performance"),
        ("a-pocket-offline-cpu-fp32", "compliance"),
        ("a-pocket-offline-openvino-fp32", "accuracy"),
        ("a-pocket-singlestream-cpu-fp32", "accuracy"),
        ("a-pocket-server-cpu-fp32", "accuracy"),
        ("a-squad-offline-cpu-fp32", "accuracy"),
        ("b-pocket-offline-cpu-fp32", "accuracy"),
    ]
    mixed = ordered[::-1]
    assert sorted(mixed, key=lambda one: place(*one)) == ordered
    assert place("broken off", "run") < place("c-d-offline-cpu-fp32", "accuracy")


def names(*ends: str) -> list[str]:
    return [f"minilm-pocket-{end}" for end in ends]


@pytest.mark.parametrize(
    ("cases", "common", "own"),
    [
        (names("offline-cpu-fp32"), "minilm-pocket-offline-cpu-fp32", [""]),
        (
            names("offline-cpu-fp32", "server-cpu-fp32"),
            "minilm-pocket-*-cpu-fp32",
            ["offline", "server"],
        ),
        (
            names("offline-cpu-fp32", "server-openvino-fp32"),
            "minilm-pocket-*-fp32",
            ["offline-cpu", "server-openvino"],
        ),
        (
            names("offline-cpu-fp32", "offline-cpu-int8"),
            "minilm-pocket-offline-cpu-*",
            ["fp32", "int8"],
        ),
        (["a", "b"], "*", ["a", "b"]),
    ],
)
def test_what_is_common_and_what_is_each_ones_own(
    cases: list[str], common: str, own: list[str]
) -> None:
    assert pattern(cases) == common
    assert labels(cases) == dict(zip(cases, own, strict=True))


def test_a_long_text_lacks_its_middle() -> None:
    assert shortened("abcdefgh", 8) == "abcdefgh"
    assert shortened("abcdefghi", 8) == "abc…fghi"
    assert shortened("abcdefghi", 1) == "…"
