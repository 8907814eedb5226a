"""Windows, answers and scores are those that transformers gave to the same questions.

tests/golden/README.md says how it was asked.
"""

import gzip
import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from shared_data import PROJECT

from bertsquad.squad import answers, questions, tokeniser
from bertsquad.squad.hugging_face import CharacterFeatures, HuggingFaceReading
from bertsquad.squad.questions import Dataset, Question
from bertsquad.squad.score import score

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


@pytest.mark.parametrize("size", ["96/32", "384/128"])
@pytest.mark.parametrize("family", NAMES)
def test_windows_are_those_of_the_family_s_fast_tokeniser(family: str, size: str) -> None:
    length, stride = map(int, size.split("/"))
    wanted = golden("windows.json.gz")[family][size]
    some = [one for one in asked().questions if one.id in wanted]
    features = reading(family, length, stride).build(Dataset(asked().contexts, tuple(some)))
    made = iter(range(len(features)))
    for index, question in enumerate(some):
        arrays = wanted[question.id]
        for row, ids in enumerate(arrays["input_ids"]):
            sample = next(made)
            assert features.question[sample] == index
            tokens, mask, segments = (array[0].tolist() for array in features.batch([sample]))
            assert (tokens, mask) == (ids, arrays["attention_mask"][row])
            if "token_type_ids" in arrays:
                assert segments == arrays["token_type_ids"][row]
            first = int(features.context_start[sample])
            characters = [tuple(pair) for pair in arrays["offset_mapping"][row][first:-1]]
            assert places(features, sample) == characters
    assert next(made, None) is None


def places(features: CharacterFeatures, sample: int) -> list[tuple[int, int]]:
    """Where the tokens of a window's context begin and end in the context."""
    low, high = features.offsets[sample : sample + 2].tolist()
    first = int(features.context_offsets[asked_context(features, sample)])
    first += int(features.doc_start[sample])
    some = slice(first, first + high - low - int(features.context_start[sample]) - 1)
    starts, ends = features.char_starts[some].tolist(), features.char_ends[some].tolist()
    return list(zip(starts, ends, strict=True))


def asked_context(features: CharacterFeatures, sample: int) -> int:
    return asked().questions[int(features.question[sample])].context


def made_logits(kind: str, seed: int, window: int, length: int) -> NDArray[np.float32]:
    drawn = np.random.default_rng([seed, window]).standard_normal((length, 2)).astype(np.float32)
    if kind == "peaky":
        drawn = (drawn**3 * 4).astype(np.float32)
    drawn[0] += np.float32(2)
    return drawn


@pytest.mark.parametrize("case", range(4))
def test_answers_to_made_logits_are_those_of_squad_metrics(case: int) -> None:
    wanted = golden("choices.json")[case]
    how = reading("bert_cased", 96, 32)
    features = how.build(asked())
    logits = {
        sample: made_logits(wanted["logits"], wanted["seed"], sample, int(length))
        for sample, length in enumerate(features.lengths)
    }
    threshold = wanted["null_threshold"]
    data = replace(asked(), version_2=threshold is not None)
    found = answers.find(data, features, how.texts(data, features), logits)
    assert {name: one.given(threshold or 0.0) for name, one in found.items()} == {
        name: one["by_offsets"] for name, one in wanted["answers"].items()
    }
    for name, one in wanted["answers"].items():
        assert found[name].score == one["score"]
        if one["null_minus_score"] is not None:
            null_score = found[name].null_score
            assert null_score is not None
            assert null_score - one["score"] == pytest.approx(one["null_minus_score"], abs=1e-9)


def test_scores_of_squad_2_are_those_of_squad_metrics() -> None:
    document = golden("metrics.json")
    given = {name: row["given"] for name, row in document["questions"].items()}
    rows = [
        Question(name, "?", 0, tuple(row["answers"])) for name, row in document["questions"].items()
    ]
    found, wanted = score(given, rows, version_2=True), document["plain"]
    assert (found.exact_match, found.f1, found.total) == (
        wanted["exact"],
        wanted["f1"],
        wanted["total"],
    )
    for share, prefix in ((found.has_answer, "HasAns"), (found.no_answer, "NoAns")):
        assert share is not None
        assert (share.exact_match, share.f1, share.total) == (
            wanted[f"{prefix}_exact"],
            wanted[f"{prefix}_f1"],
            wanted[f"{prefix}_total"],
        )


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
