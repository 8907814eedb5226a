"""The random BERT has the shape and the names of MLPerf's, and calculates what a BERT does."""

import hashlib
import math
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx.checker
import onnx.numpy_helper
import onnxruntime as ort
import pytest
import tiny
from numpy.typing import NDArray

from bertsquad.models import random_bert
from bertsquad.models.preparation import Prepared, prepare
from bertsquad.models.random_bert import BERT_LARGE, Architecture
from bertsquad.models.signature import Feed
from bertsquad.models.zoo import MODELS, files_of, locate
from bertsquad.runtime.sessions import open_on_cpu

# Its vocabulary holds the ids that bertsquad.models.preparation compares models with.
SMALL = Architecture(layers=2, hidden=32, heads=4, intermediate=48, vocabulary=20_000)
SHAPES = {
    "bert.embeddings.word_embeddings.weight": (20_000, 32),
    "bert.embeddings.position_embeddings.weight": (512, 32),
    "bert.embeddings.token_type_embeddings.weight": (2, 32),
    "bert.embeddings.LayerNorm.weight": (32,),
    "bert.embeddings.LayerNorm.bias": (32,),
    "qa_outputs.weight.T": (32, 2),
    "qa_outputs.bias": (2,),
}
for _scope in ("bert.encoder.layer.0", "bert.encoder.layer.1"):
    for _name in ("self.query", "self.key", "self.value", "output.dense"):
        SHAPES[f"{_scope}.attention.{_name}.weight.T"] = (32, 32)
        SHAPES[f"{_scope}.attention.{_name}.bias"] = (32,)
    for _name in ("attention.output.LayerNorm", "output.LayerNorm"):
        SHAPES[f"{_scope}.{_name}.weight"] = SHAPES[f"{_scope}.{_name}.bias"] = (32,)
    SHAPES[f"{_scope}.intermediate.dense.weight.T"] = (32, 48)
    SHAPES[f"{_scope}.intermediate.dense.bias"] = (48,)
    SHAPES[f"{_scope}.output.dense.weight.T"] = (48, 32)
    SHAPES[f"{_scope}.output.dense.bias"] = (32,)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("random") / "model.onnx"
    random_bert.write(path, SMALL)
    return path


def arrays(path: Path) -> dict[str, NDArray[np.float32]]:
    graph = onnx.load(path).graph
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


def windows(batch: int = 2, real: int = 384, length: int = 384) -> dict[str, NDArray[np.int64]]:
    """A batch of windows of `real` tokens, padded with zeros to `length`."""
    ids, mask, segments = (np.zeros((batch, length), np.int64) for _ in range(3))
    ids[:, :real] = np.random.default_rng(5).integers(1000, 20_000, (batch, 384))[:, :real]
    mask[:, :real] = 1
    segments[:, real // 3 : real] = 1
    return {"input_ids": ids, "input_mask": mask, "segment_ids": segments}


def logits(path: Path, feed: Feed) -> NDArray[np.float32]:
    return np.stack(open_on_cpu(path, threads=1)(feed), axis=-1)


def ready(path: Path, device: str, precision: str) -> Prepared:
    open_model = partial(open_on_cpu, threads=1)
    return prepare(files_of(path), device, precision, open_model, tiny.calibration)


def bert(weights: dict[str, NDArray[np.float32]], feed: Feed) -> NDArray[np.float64]:
    """What a BERT of `SMALL` architecture answers, in float64 [batch, length, 2]."""

    def linear(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        product: NDArray[np.float64] = x @ weights[f"{name}.weight.T"] + weights[f"{name}.bias"]
        return product

    def norm(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        normal = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
        scaled: NDArray[np.float64] = normal * weights[f"{name}.weight"] + weights[f"{name}.bias"]
        return scaled

    def heads(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x.reshape(*x.shape[:2], SMALL.heads, -1).swapaxes(1, 2)

    batch, length = feed["input_ids"].shape
    scope = "bert.embeddings"
    x = weights[f"{scope}.word_embeddings.weight"].astype(np.float64)[feed["input_ids"]]
    x += weights[f"{scope}.position_embeddings.weight"][:length]
    x += weights[f"{scope}.token_type_embeddings.weight"][feed["segment_ids"]]
    x = norm(f"{scope}.LayerNorm", x)
    for layer in range(SMALL.layers):
        scope = f"bert.encoder.layer.{layer}"
        query, key, value = (
            heads(linear(f"{scope}.attention.self.{name}", x)) for name in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(2, 3) / math.sqrt(SMALL.hidden / SMALL.heads)
        shares = np.exp(scores) * feed["input_mask"][:, None, None]
        context = (shares / shares.sum(-1, keepdims=True) @ value).swapaxes(1, 2)
        attended = linear(f"{scope}.attention.output.dense", context.reshape(batch, length, -1))
        x = norm(f"{scope}.attention.output.LayerNorm", x + attended)
        wide = linear(f"{scope}.intermediate.dense", x)
        wide *= (1 + np.vectorize(math.erf)(wide / math.sqrt(2))) / 2
        x = norm(f"{scope}.output.LayerNorm", x + linear(f"{scope}.output.dense", wide))
    return linear("qa_outputs", x)


def test_the_weights_have_the_names_and_shapes_of_a_bert(path: Path) -> None:
    assert {name: array.shape for name, array in arrays(path).items()} == SHAPES


def test_the_weights_are_what_an_untrained_bert_starts_from(path: Path) -> None:
    for name, array in arrays(path).items():
        assert array.dtype == np.float32
        if name.endswith("bias"):
            assert not array.any()
        elif name.endswith("LayerNorm.weight"):
            assert (array == 1).all()
        else:
            assert len(np.unique(array)) > array.size / 2
            assert abs(array.mean()) < 0.02 / math.sqrt(array.size) * 5
            assert array.std() == pytest.approx(0.02, rel=5 / math.sqrt(array.size))


def test_the_signature_is_that_of_mlperfs_model(path: Path) -> None:
    signature = tiny.inspect(path)
    assert (signature.ids, signature.mask, signature.segments) == (
        "input_ids",
        "input_mask",
        "segment_ids",
    )
    assert (signature.start, signature.end) == ("output_start_logits", "output_end_logits")
    assert (signature.dtype, signature.batch, signature.length) == ("int64", None, 384)
    # Six of weights and two of attention a layer, one of the head.
    assert (signature.products, signature.quantised, signature.half) == (17, 0, 0)


def test_the_file_is_valid_and_old_enough_for_every_runtime(path: Path) -> None:
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 11)]
    assert model.ir_version <= 7


def test_it_runs_padded_to_384(path: Path) -> None:
    start, end = open_on_cpu(path, threads=1)(windows(batch=3, real=100))
    assert start.shape == end.shape == (3, 384)
    assert start.dtype == end.dtype == np.float32
    assert np.isfinite([start, end]).all()
    assert (start != end).any()


def test_it_calculates_what_a_bert_does(path: Path, tmp_path: Path) -> None:
    # Weights so large, and none zero or one, that each of them matters.
    model, rng = onnx.load(path), np.random.default_rng(1)
    for tensor in model.graph.initializer:
        values = rng.normal(0, 0.3, tensor.dims).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / "large.onnx")
    feed = windows(real=200)
    expected = bert(arrays(tmp_path / "large.onnx"), feed)
    assert expected.std() > 0.3
    assert logits(tmp_path / "large.onnx", feed) == pytest.approx(expected, abs=1e-4)


def test_padding_does_not_change_the_logits_of_real_tokens(path: Path) -> None:
    feed = windows(real=150)
    expected = logits(path, feed)
    feed["input_ids"][:, 150:] = 777
    assert (logits(path, feed)[:, :150] == expected[:, :150]).all()


@pytest.mark.parametrize(
    ("device", "precision", "note", "tolerance"),
    [
        ("cpu", "fp32", "", 1e-5),
        # The head's two columns and attention's products of activations stay in float.
        ("cpu", "int8", "; 12 of 17 matrix products quantised, calibrated with 3 windows", 5e-3),
        ("cuda", "fp16", "; converted to half precision, logits compared on the CPU", 1e-3),
    ],
    ids=["fp32", "int8", "fp16"],
)
def test_it_is_made_ready_for_every_precision(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    precision: str,
    note: str,
    tolerance: float,
) -> None:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path))
    prepared = ready(path, device, precision)
    assert prepared.note == f"sequence axis opened (was 384), logits proven equal{note}"
    padded = logits(path, windows(real=70))[:, :70]
    found = logits(prepared.path, windows(real=70, length=70))
    assert found == pytest.approx(padded, abs=tolerance)
    assert padded.std() > 10 * tolerance


def test_onnx_runtime_recognises_the_parts_of_a_bert(path: Path, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3  # it warns that such a file is for this machine only
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    operators = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    norms = sum(count for name, count in operators.items() if "LayerNormalization" in name)
    assert norms == 1 + 2 * SMALL.layers
    assert operators["BiasGelu"] == operators["Attention"] == SMALL.layers
    assert not operators.keys() & {"ReduceMean", "Sqrt", "Erf", "Softmax"}


def test_the_same_bytes_are_written_each_time(path: Path, tmp_path: Path) -> None:
    random_bert.write(tmp_path / "again.onnx", SMALL)
    digests = [hashlib.sha256(file.read_bytes()) for file in (path, tmp_path / "again.onnx")]
    assert digests[0].digest() == digests[1].digest()


def test_a_failure_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("old", "utf-8")
    with pytest.raises(ValueError, match="negative dimensions"):
        random_bert.write(path, Architecture(1, 8, 2, 8, positions=-1))
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text("utf-8") == "old"


def test_a_damaged_copy_in_the_cache_is_built_anew_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path))
    monkeypatch.setattr(random_bert, "write", partial(random_bert.write, architecture=SMALL))
    model = MODELS["bert_large_random"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built = locate(model)
        path = built.path
        whole, written = path.read_bytes(), path.stat().st_mtime_ns
        assert locate(model) == built
        assert path.stat().st_mtime_ns == written
    for damaged in (whole[:-1000], b"", whole[:1000] + b"?" + whole[1001:]):
        path.write_bytes(damaged)
        with pytest.warns(UserWarning, match=f"{path.name} was rebuilt, since .* was damaged"):
            assert locate(model).key == built.key
        assert path.read_bytes() == whole


def parameters(architecture: Architecture) -> int:
    weights = random_bert._build(architecture).weights
    return sum(math.prod(weight.shape) for weight in weights)


def test_the_parameters_are_those_of_the_file(path: Path) -> None:
    assert parameters(SMALL) == sum(array.size for array in arrays(path).values())


def test_bert_large_has_334_million_parameters_and_fits_protobufs_two_gigabytes() -> None:
    # Of BertForQuestionAnswering without the pooler, which MLPerf's export leaves out.
    encoder = 24 * (4 * (1024 + 1) * 1024 + 2 * 4096 * 1024 + 4096 + 1024 + 2 * 2 * 1024)
    embeddings = (30_522 + 512 + 2 + 2) * 1024
    assert parameters(BERT_LARGE) == encoder + embeddings + 2 * (1024 + 1)
    assert parameters(BERT_LARGE) == 334_094_338
    assert 4 * parameters(BERT_LARGE) < 2**31
