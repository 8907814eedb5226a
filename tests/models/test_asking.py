"""Known questions tell outputs apart that have no telling names, or the user is asked."""

from collections.abc import Callable
from pathlib import Path

import exported
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from preparing import Opens, ready
from shared_data import POCKET, pocket, pocket_features, reading

from bertsquad.errors import SuiteError
from bertsquad.models import asking
from bertsquad.models.asking import Known, Reply, gain, tell_apart
from bertsquad.models.reads import Layout, Reads
from bertsquad.squad import features, known_questions
from bertsquad.squad.known_questions import KnownSet

FAMILIES = Path(__file__).resolve().parents[1] / "families"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))


def asked(count: int = 24, longest: int = 60) -> Known:
    """Windows whose answers begin with `exported.START` and end with `exported.END`."""
    rng = np.random.default_rng(11)
    ids = rng.integers(5, 240, (count, longest))
    lengths = rng.integers(20, longest + 1, count)
    mask = (np.arange(longest) < lengths[:, None]).astype(np.int64)
    starts = np.array([rng.integers(5, length - 4) for length in lengths])
    ends = starts + rng.integers(1, 4, count)
    ids[np.arange(count), starts] = exported.START
    ids[np.arange(count), ends] = exported.END
    return Known(ids * mask, mask, mask * (np.arange(longest) > 4), starts, ends)


def renamed(path: Path, out: Path, *names: str) -> Path:
    """A model whose outputs have other names."""
    model = onnx.load(str(path))
    for value, name in zip(model.graph.output, names, strict=True):
        (node,) = (one for one in model.graph.node if value.name in one.output)
        readers = [one for one in model.graph.node if value.name in one.input]
        assert not readers
        node.output[list(node.output).index(value.name)] = name
        value.name = name
    out.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(out))
    return out


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("extras", [(), ("hidden", "pooled", "attention", "flat")])
@pytest.mark.parametrize("shapes", [True, False], ids=["shapes", "no shapes"])
@pytest.mark.parametrize(("length", "batch"), [(None, None), (384, None), (384, 2)])
def test_known_questions_tell_outputs_apart(
    tmp_path: Path,
    swapped: bool,
    extras: tuple[str, ...],
    shapes: bool,
    length: int | None,
    batch: int | None,
) -> None:
    names = ("b", "a") if swapped else ("a", "b")
    path = exported.model(
        *(tmp_path / "a.onnx",),
        outputs=names,
        extras=extras,
        shapes=shapes,
        length=length,
        batch=batch,
    )
    prepared = ready(path, known=asked)
    assert (prepared.signature.start, prepared.signature.end) == names
    assert not prepared.signature.candidates
    assert f"start and end logits are {names[0]} and {names[1]}" in prepared.note


def test_the_order_of_outputs_in_the_file_doesnt_matter(tmp_path: Path) -> None:
    path = exported.model(tmp_path / "a.onnx", outputs=("a", "b"))
    model = onnx.load(str(path))
    swapped = list(model.graph.output)[::-1]
    del model.graph.output[:]
    model.graph.output.extend(swapped)
    onnx.save(model, str(path))
    assert ready(path, known=asked).signature.wanted == ["a", "b"]


def test_one_output_of_unknown_shape_is_known_by_what_it_answers(tmp_path: Path) -> None:
    path = exported.model(tmp_path / "a.onnx", outputs=("logits",), shapes=False)
    prepared = ready(path, known=asked)
    assert prepared.signature.stacked
    assert "columns of logits" in prepared.note


def test_names_that_say_it_are_asked_nothing(tmp_path: Path) -> None:
    def never() -> Known:
        raise AssertionError("known questions were asked")

    prepared = ready(exported.model(tmp_path / "a.onnx"), known=never)
    assert prepared.note == "as it is"
    one = ready(exported.model(tmp_path / "b.onnx", outputs=("logits",)), known=never)
    assert "columns of logits taken for start and end" in one.note


@pytest.mark.parametrize(
    ("extras", "sharp", "candidates"),
    [((), 0.0, ("a", "b")), (("same",), 8.0, ("same", "a", "b"))],
    ids=["one that answers nothing", "two that answer the same"],
)
def test_what_stays_unclear_is_a_question_to_the_user(
    tmp_path: Path, extras: tuple[str, ...], sharp: float, candidates: tuple[str, ...]
) -> None:
    path = exported.model(tmp_path / "a.onnx", outputs=("a", "b"), extras=extras, sharp=sharp)
    for given in (asked, None):
        with pytest.raises(SuiteError, match="--outputs START,END") as caught:
            ready(path, known=given)
        assert ", ".join(candidates) in str(caught.value)
        assert "\n" not in str(caught.value)
    prepared = ready(path, reads=Reads(outputs=("a", "b")))
    assert prepared.signature.wanted == ["a", "b"]
    assert "a and b, as asked for" in prepared.note


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
@pytest.mark.parametrize(
    "quantised", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["float", "int8"]
)
def test_outputs_stay_what_was_found_after_the_model_was_changed(
    tmp_path: Path, names: tuple[str, str], quantised: bool
) -> None:
    path = POCKET / "minilm-squad.onnx"
    path = renamed(path, tmp_path / "a.onnx", *names)
    prepared = ready(path, "int8" if quantised else "fp32", known=pocket_questions(tmp_path))
    assert (prepared.signature.start, prepared.signature.end) == names
    assert not prepared.signature.candidates


def pocket_questions(folder: Path) -> Callable[[], Known]:
    """The known questions of the bundled data set, as the suite makes them."""
    file = folder / "features.npz"
    features.save(pocket_features(), file)
    texts = reading().texts(pocket(), pocket_features())
    chosen = known_questions.choose(pocket(), pocket_features(), texts, str(file))
    return lambda: asking.known_from(chosen)


@pytest.mark.parametrize("family", ["bert_uncased", "distilbert"])
def test_models_of_random_weights_are_never_told_apart(tmp_path: Path, family: str) -> None:
    path = renamed(FAMILIES / "optimum" / family / "model.onnx", tmp_path / "a.onnx", "a", "b")
    with pytest.raises(SuiteError, match="outputs a, b don't tell"):
        ready(path, known=asked)


def test_random_logits_are_never_told_apart_however_large() -> None:
    questions, rng = asked(), np.random.default_rng(0)
    for scale in (0.1, 1.0, 10.0, 1000.0):
        for _ in range(50):
            answers = [
                Reply((1, 60), {name: scale * rng.standard_t(2, (1, 60)) for name in "abc"})
                for _ in questions.ids
            ]
            with pytest.raises(LookupError):
                tell_apart("abc", questions, answers)


def test_only_questions_that_the_model_can_read_are_asked(tmp_path: Path) -> None:
    path = exported.model(tmp_path / "a.onnx", outputs=("a", "b"), length=40)
    prepared = ready(path, reads=Reads(longest=40), known=asked)
    assert prepared.signature.wanted == ["a", "b"]
    short = int((asked().mask.sum(1) <= 40).sum())
    assert 0 < short < 24
    assert f"told by {short} known questions" in prepared.note
    for names in (("a", "b"), ("logits",)):
        path = exported.model(tmp_path / "b.onnx", outputs=names, shapes=False)
        with pytest.raises(SuiteError, match="--outputs"):
            ready(path, reads=Reads(longest=10), known=asked)


def test_no_known_question_at_all_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "features.npz"
    features.save(pocket_features(), file)
    path = exported.model(tmp_path / "a.onnx", outputs=("a", "b"))
    with pytest.raises(SuiteError, match=r"nor do 0 known questions.*--outputs"):
        ready(path, known=lambda: asking.known_from(KnownSet(str(file), (), (), ())))


def test_logits_that_are_not_finite_tell_nothing() -> None:
    questions = asked()
    shape = (1, 60)
    answers = [Reply(shape, dict.fromkeys("ab", np.full(shape, np.nan))) for _ in questions.ids]
    with pytest.raises(LookupError):
        tell_apart("ab", questions, answers)


def test_a_gain_is_how_much_likelier_the_answer_is_than_by_guessing() -> None:
    flat: NDArray[np.float32] = np.full(50, 3.0, np.float32)
    assert gain(flat, 7) == pytest.approx(0)
    sure = np.where(np.arange(50) == 7, 1000.0, 0.0)
    assert gain(sure, 7) == pytest.approx(np.log(50))
    assert gain(sure, 8) < -900
    assert gain(sure.astype(np.float16), 7) == pytest.approx(np.log(50))


def test_layouts_reach_the_known_questions(tmp_path: Path) -> None:
    """A model that counts positions from 2 is asked with its own numbers."""
    inputs = ("input_ids", "attention_mask", "position_ids")
    path = exported.model(tmp_path / "a.onnx", outputs=("a", "b"), inputs=inputs)
    opens = Opens()
    prepared = ready(path, "fp32", opens, reads=Reads(Layout(1, 2)), known=asked)
    assert prepared.signature.wanted == ["a", "b"]
    assert opens.opened == ["a.onnx"]
