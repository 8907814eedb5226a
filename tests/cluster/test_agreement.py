"""Nodes that differ from their driver are named, with what differs."""

from dataclasses import replace

import pytest

from bertsquad.cluster.agreement import disagreement
from bertsquad.cluster.node import Survey

VERSIONS = {"python": "3.11.2", "ray": "2.60.0", "onnxruntime-gpu": "1.31.1"}
ALIKE = Survey("alpha", VERSIONS, "a" * 64, 1536)


def said(**other: object) -> str | None:
    nodes = {"10.0.0.1": ALIKE, "10.0.0.2": replace(ALIKE, host="beta", **other)}  # type: ignore[arg-type]
    return disagreement(VERSIONS, "a" * 64, nodes)


def test_nodes_that_are_alike_agree() -> None:
    assert said() is None


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ({"onnxruntime-gpu": "1.30.0"}, "has onnxruntime-gpu 1.30.0, but this machine has 1.31.1"),
        ({"python": "3.11.9"}, "has python 3.11.9, but this machine has 3.11.2"),
        ({"numpy": "2.3"}, "has numpy 2.3, but this machine has none"),
    ],
)
def test_another_version_is_told_with_both(there: dict[str, str], told: str) -> None:
    sentence = said(versions=VERSIONS | there)

    assert sentence is not None
    assert sentence.startswith("node 10.0.0.2 (beta)") and told in sentence


def test_a_package_that_a_node_lacks_is_told() -> None:
    sentence = said(versions={k: v for k, v in VERSIONS.items() if k != "onnxruntime-gpu"})

    assert sentence is not None and "has onnxruntime-gpu not at all" in sentence


def test_other_code_of_the_suite_is_told() -> None:
    sentence = said(source="b" * 64)

    assert sentence is not None
    assert "runs other code of this suite" in sentence and "bbbbbbbbbbbb" in sentence
