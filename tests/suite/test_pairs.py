"""A run is compared with the answers that say most about it."""

from dataclasses import replace
from pathlib import Path

import pytest
from shared_data import POCKET_FILE, pocket, reading

from bertsquad.models.zoo import MODELS, Model
from bertsquad.results.predictions import Answered
from bertsquad.results.reference import BUNDLED, KNOWN, SESSION, Pair
from bertsquad.results.result import FAILED, NO_TARGET, PASSED, UNDECIDED
from bertsquad.squad import datasets
from bertsquad.squad.datasets import DATASETS, Data
from bertsquad.squad.score import Score
from bertsquad.suite.cases import Case
from bertsquad.suite.pairs import Pairs

MINE = replace(MODELS["minilm"], name="mine", file=None, path=Path("mine.onnx"), answers={})
#: Nothing is kept for it, as for a data set of one's own.
UNKNOWN = "sha256:0"


def case(model: Model = MINE, precision: str = "int8", scenario: str = "offline") -> Case:
    return Case(model, DATASETS["pocket"], scenario, "cpu", precision)


def data(checksum: str = UNKNOWN) -> Data:
    known = datasets.locate(DATASETS["pocket"])[1]
    checksum = known if checksum == "pocket" else checksum
    return Data(pocket(), None, reading(), POCKET_FILE, POCKET_FILE, checksum)  # type: ignore[arg-type]


def answered(count: int, f1: float = 0.5) -> Answered:
    return Answered(pocket().questions[:count], {}, Score(0, 100 * f1, count, (f1,) * count))


def found(pairs: Pairs, wanted: Case, checksum: str = UNKNOWN, count: int = 20) -> Pair | None:
    return pairs.find(wanted, data(checksum), answered(count), 88.5)


def test_int8_is_compared_with_what_the_model_answered_in_fp32_before() -> None:
    pairs = Pairs()
    assert found(pairs, case()) is None
    pairs.keep(case(precision="fp32", scenario="server"), answered(20), NO_TARGET)
    pair = found(pairs, case(), count=17)
    assert pair is not None
    assert (pair.source, pair.model, pair.whole_f1) == (SESSION, "mine", 88.5)
    assert set(pair.f1.values()) == {0.5}
    assert found(pairs, case(precision="bf16")) == found(pairs, case(precision="fp16")) == pair


def test_fp32_itself_another_model_and_more_questions_are_not() -> None:
    pairs = Pairs()
    pairs.keep(case(precision="fp32"), answered(20), PASSED)
    assert found(pairs, case(precision="fp32")) is None
    assert found(pairs, case(replace(MINE, name="other"))) is None
    assert found(pairs, case(), count=21) is None


def test_the_run_of_most_questions_stays() -> None:
    pairs = Pairs()
    for count, f1 in ((30, 0.25), (20, 0.5)):
        pairs.keep(case(precision="fp32"), answered(count, f1), PASSED)
    pair = found(pairs, case(), count=30)
    assert pair is not None
    assert set(pair.f1.values()) == {0.25}


@pytest.mark.parametrize("verdict", [FAILED, UNDECIDED])
def test_a_run_in_fp32_that_misses_its_target_is_no_measure(verdict: str) -> None:
    pairs = Pairs()
    pairs.keep(case(precision="fp32"), answered(20), verdict)
    assert found(pairs, case()) is None
    pair = found(pairs, case(), "pocket")
    assert pair is not None
    assert pair.source == BUNDLED


def test_kept_answers_of_the_very_model_come_first_and_those_of_another_last() -> None:
    pairs = Pairs()
    minilm = MODELS["minilm"]
    for model in (minilm, MINE):
        pairs.keep(case(model, "fp32"), answered(20), PASSED)
    sources = [
        pair.source
        for wanted in (case(minilm), case(minilm, "fp32"), case(), case(MINE, "fp32"))
        if (pair := found(pairs, wanted, "pocket")) is not None
    ]
    assert sources == [KNOWN, KNOWN, SESSION, BUNDLED]
