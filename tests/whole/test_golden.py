"""Logits and answers are those that transformers gave to the same questions.

tests/golden/README.md says how it was asked. Windows, scores and answers to made logits are
compared in tests/squad.
"""

import gzip
import json
from functools import cache
from typing import Any

import numpy as np
import onnxruntime
import pytest
from shared_data import PROJECT

from bertsquad.squad import answers, questions, tokeniser
from bertsquad.squad.hugging_face import HuggingFaceReading
from bertsquad.squad.questions import Dataset

GOLDEN = PROJECT / "tests" / "golden"
FAMILIES = PROJECT / "tests" / "families"
NAMES = sorted(path.name for path in (FAMILIES / "optimum").iterdir())


@cache
def golden(name: str) -> Any:
    file = GOLDEN / name
    return json.loads(
        gzip.decompress(file.read_bytes()) if name.endswith(".gz") else file.read_bytes()
    )


@cache
def asked() -> Dataset:
    return questions.load(GOLDEN / "questions.json")


def reading(family: str, length: int, stride: int) -> HuggingFaceReading:
    return HuggingFaceReading(tokeniser.load(FAMILIES / "optimum" / family), length, stride)


@pytest.mark.parametrize("way", ["optimum", "torch"])
@pytest.mark.parametrize("family", NAMES)
def test_logits_and_answers_are_those_of_pytorch_and_its_pipeline(family: str, way: str) -> None:
    wanted = golden("models.json")[family]
    some = [one for one in asked().questions if one.id in wanted["answers"]]
    data = Dataset(asked().contexts, tuple(some))
    how = reading(family, 384, 128)
    features = how.build(data)
    session = onnxruntime.InferenceSession(
        FAMILIES / way / family / "model.onnx", providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    logits = {}
    for sample in range(len(features)):
        arrays = dict(
            zip(
                ("input_ids", "attention_mask", "token_type_ids"),
                features.batch([sample]),
                strict=True,
            )
        )
        out = session.run(["start_logits", "end_logits"], {name: arrays[name] for name in names})
        logits[sample] = np.stack([row[0] for row in out], axis=1)
    known = next(i for i, one in enumerate(some) if one.id == wanted["question"])
    expected = np.array([wanted["start_logits"], wanted["end_logits"]]).T
    assert np.abs(logits[known] - expected).max() < 1e-4
    found = answers.find(data, features, how.texts(data, features), logits)
    assert {name: one.text for name, one in found.items()} == {
        name: one["answer"] for name, one in wanted["answers"].items()
    }
