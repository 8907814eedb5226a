"""Provider and precision are proven by what a session does, or refused in a sentence."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import pytest
import stored_as
import tiny
from engines import CPU, CUDA, ONE, arrays, is_a_sentence, make_engine

from bertsquad.devices import DEVICES
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.models.preparation import Prepared
from bertsquad.models.products import PARTLY, PRODUCTS
from bertsquad.models.stored import Stored
from bertsquad.runtime import engine, nvidia, proofs, sessions
from bertsquad.runtime.engine import Engine
from bertsquad.runtime.parallelism import Parallelism
from bertsquad.runtime.proofs import why_not_really


def test_the_cpu_provider_is_proven_by_the_graph(tmp_path: Path) -> None:
    made = make_engine(tiny.model(tmp_path / "a.onnx"))
    assert made.device.provider == "CPUExecutionProvider"
    assert made.proof == "1 of 1 matrix products on CPUExecutionProvider, 1 of 1 calculated in fp32"


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_gpu_session_that_silently_became_a_cpu_session_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if why_not_really(name) is None:
        pytest.skip(f"{name} really works on this machine")
    monkeypatch.setattr(engine, "why_not", lambda device: None)
    with pytest.raises(Unavailable) as caught:
        make_engine(tiny.model(tmp_path / "a.onnx"), DEVICES[name])
    message = str(caught.value)
    assert is_a_sentence(message)
    assert f"{name}: {DEVICES[name].provider} doesn't run the model here" in message
    assert "1 on CPUExecutionProvider" in message
    assert nvidia.likely_cause() in message
    assert caught.value.subject == "device"


def test_fp32_on_the_cpu_is_proven_exact() -> None:
    proofs.prove_precision(CPU, "fp32")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_what_the_cpu_would_calculate_in_fp32_is_refused(tmp_path: Path, precision: str) -> None:
    expected = f"cpu was asked for {precision} but calculates in fp32"
    with pytest.raises(Unavailable, match=expected) as caught:
        make_engine(tiny.model(tmp_path / "a.onnx"), CPU, precision)
    assert is_a_sentence(str(caught.value))
    assert not proofs.can_calculate(CPU, precision)


@pytest.mark.parametrize("name", DEVICES)
def test_every_device_works_or_says_why_not_without_repeating_its_name(name: str) -> None:
    reason = why_not_really(name)
    if name == "cpu":
        assert reason is None
    assert reason is None or (is_a_sentence(reason) and not reason.startswith(f"{name}:"))


def test_the_precisions_of_the_cpu_are_all_to_be_had() -> None:
    assert proofs.precisions_here("cpu") == ["fp32", "int8"]


def test_a_float_model_is_really_calculated_in_int8(tmp_path: Path, temporary: Path) -> None:
    made = make_engine(tiny.model(tmp_path / "a.onnx", wide=True), CPU, "int8")
    provider = "2 of 2 matrix products on CPUExecutionProvider"
    assert made.proof == f"{provider}, 1 of 2 calculated in int8, the rest in fp32"
    given = arrays(2, 40)
    found, exact = made.logits(*given), tiny.logits(*given)
    assert found == pytest.approx(exact, abs=0.6)
    assert not np.array_equal(found, exact)


@pytest.mark.parametrize("parallelism", [Parallelism(2, 1), Parallelism(2, 2)], ids=str)
def test_int8_is_proven_for_every_session(
    tmp_path: Path, temporary: Path, parallelism: Parallelism
) -> None:
    made = make_engine(tiny.model(tmp_path / "a.onnx", wide=True), CPU, "int8", parallelism)
    assert made.proof.endswith(", 1 of 2 calculated in int8, the rest in fp32")
    for instance in range(2):  # none records what it runs any more
        made.logits(*arrays(2, 40), instance=instance)


@pytest.mark.parametrize(
    ("variant", "sizes"),
    [({"length": 384, "hardwired": True}, (2, 384)), ({"batch": 3}, (3, 20)), ({}, (2, 20))],
    ids=["length", "batch", "open"],
)
@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_int8_is_proven_at_the_sizes_that_the_model_has(
    tmp_path: Path, variant: dict[str, Any], sizes: tuple[int, int], dtype: str
) -> None:
    path = tiny.model(tmp_path / "a.onnx", wide=True, dtype=dtype, **variant)
    made = make_engine(path, CPU, "int8")
    assert made.proof.endswith("1 of 2 calculated in int8, the rest in fp32")
    expected = tiny.logits(*arrays(*sizes), hardwired="hardwired" in variant)
    assert made.logits(*arrays(*sizes)) == pytest.approx(expected, abs=0.6)


@pytest.mark.parametrize("sizes", [(1, 384), (2, 384), (1, None), (None, 384), (None, None)])
def test_a_float_model_with_biases_runs_in_int8_at_whatever_fixed_sizes(
    tmp_path: Path, sizes: tuple[int | None, int | None]
) -> None:
    batch, length = sizes
    options: dict[str, Any] = {"batch": batch, "length": length, "hardwired": length is not None}
    path = stored_as.model(tmp_path / "a.onnx", stored_as.biased, **options)
    made = make_engine(path, CPU, "int8")
    assert (made.fixed_batch, made.fixed_length) == sizes
    assert made.proof.endswith("1 of 2 calculated in int8, the rest in fp32")
    given = arrays(batch or 2, length or 40)
    expected = tiny.logits(*given, hardwired=length is not None)
    assert made.logits(*given) == pytest.approx(expected, abs=0.6)


def test_a_quantised_model_runs_in_int8(tmp_path: Path) -> None:
    made = make_engine(tiny.model(tmp_path / "a.onnx", quantised=True), CPU, "int8")
    proof = "1 of 1 matrix products on CPUExecutionProvider, 1 of 1 calculated in int8"
    assert made.proof == proof
    given = arrays(2, 40)
    found, exact = made.logits(*given), tiny.logits(*given)
    # Half a step of 1/16 in each of 8 activations, times weights of at most 100/64.
    assert found == pytest.approx(exact, abs=0.4)
    assert not np.array_equal(found, exact)


def test_a_quantised_model_that_is_calculated_in_float_all_the_same_is_refused(
    tmp_path: Path, temporary: Path
) -> None:
    path = tiny.model(tmp_path / "a.onnx", quantised=True)
    model = onnx.load(str(path))
    # ONNX Runtime makes no integer product of its own operator, and says nothing.
    product = next(node for node in model.graph.node if node.op_type == "MatMul")
    product.op_type, product.domain = "FusedMatMul", "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, str(path))
    assert tiny.inspect(path).quantised == 1
    with pytest.raises(Unavailable, match="cpu was asked for int8 but calculates every") as caught:
        make_engine(path, CPU, "int8")
    assert is_a_sentence(str(caught.value))


def test_a_model_without_matrix_products_is_no_bert(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="holds no matrix product"):
        make_engine(tiny.model(tmp_path / "a.onnx", product=False))


def test_the_proof_counts_only_the_device_that_was_asked_for(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx")
    session = sessions.make_session(path, CPU, "fp32", ONE)
    elsewhere = replace(CPU, name="other", provider="OtherExecutionProvider")
    with pytest.raises(Unavailable, match="of 1 matrix products, 1 on CPUExecutionProvider"):
        proofs.prove_provider(session, elsewhere)


def unexamined(path: Path) -> Prepared:
    """A model of which nothing but its inputs and outputs is known before it runs."""
    return Prepared(path, replace(tiny.inspect(path), stored=Stored()))


FLOAT = {"plain": stored_as.plain, "einsum": stored_as.einsum, "conv": stored_as.conv}
NARROW = {
    "transposed": stored_as.transposed,
    "dynamic": stored_as.dynamic,
    "packed": stored_as.packed,
    "weights": stored_as.weights,
    "by hand": stored_as.by_hand,
    "four bits": stored_as.four_bits,
    "half": stored_as.half,
    "double": stored_as.double,
}
PLACES = {
    "in the graph": lambda form: form,
    "in a function": stored_as.in_a_function,
    "in a branch": stored_as.in_a_branch,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", FLOAT)
def test_float_products_are_proven_in_whatever_way_they_are_written(
    tmp_path: Path, temporary: Path, form: str, place: str
) -> None:
    made = make_engine(stored_as.model(tmp_path / "a.onnx", PLACES[place](FLOAT[form])))
    in_both = "4 of 4" if place == "in a branch" else "2 of 2"
    proof = f"{in_both} matrix products on CPUExecutionProvider, 2 of 2 calculated in fp32"
    if place == "in a branch":
        proof += " by a trial batch, which takes one branch of each If"
    assert made.proof == proof
    given = arrays(2, 40)
    assert made.logits(*given) == pytest.approx(tiny.logits(*given), abs=1e-4)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", NARROW)
def test_what_is_not_multiplied_in_fp32_is_never_called_so(
    tmp_path: Path, temporary: Path, form: str, place: str
) -> None:
    path = stored_as.model(tmp_path / "a.onnx", PLACES[place](NARROW[form]))
    with pytest.raises(SuiteError, match=r"a\.onnx .*so it can't run in fp32: ") as caught:
        make_engine(path)
    assert is_a_sentence(str(caught.value))
    cure = "use --precision int8" if form in ("transposed", "dynamic") else "give the float32 model"
    if form == "half":
        cure += ", or use --precision fp16 on a GPU"
    assert str(caught.value).endswith(cure)


@pytest.mark.parametrize(
    ("form", "really"),
    [
        ("dynamic", "2 in int8; use --precision int8"),
        ("packed", f"2 {PARTLY}; give the float32 model"),
        ("double", "2 in fp64; give the float32 model"),
    ],
)
@pytest.mark.parametrize("place", ["in the graph", "in a function"])
def test_the_profile_decides_where_a_look_at_the_graph_missed_something(
    tmp_path: Path, temporary: Path, form: str, really: str, place: str
) -> None:
    path = stored_as.model(tmp_path / "a.onnx", PLACES[place](NARROW[form]))
    with pytest.raises(SuiteError) as caught:
        Engine(unexamined(path), CPU, "fp32", ONE)
    expected = f"the model can't run in fp32: of 2 matrix products, cpu calculates {really}"
    assert str(caught.value) == expected


@pytest.mark.parametrize("form", ["packed", "weights", "four bits", "by hand", "half", "double"])
def test_a_model_that_is_no_int8_model_and_no_float_one_is_refused_as_int8(
    tmp_path: Path, form: str
) -> None:
    path = stored_as.model(tmp_path / "a.onnx", NARROW[form])
    cure = "give the float32 model" + (
        ", or use --precision fp16 on a GPU" if form == "half" else ""
    )
    with pytest.raises(SuiteError, match=rf"so it can't run in int8: {cure}$"):
        make_engine(path, CPU, "int8")
    if form == "packed":
        with pytest.raises(SuiteError, match=f"of 2 matrix products, cpu calculates 2 {PARTLY}"):
            Engine(unexamined(path), CPU, "int8", ONE)


@pytest.mark.parametrize("place", ["in the graph", "in a function"])
@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("length", [None, 384])
def test_fake_quantisation_with_a_transposed_weight_runs_in_int8(
    tmp_path: Path, place: str, opset: int, length: int | None
) -> None:
    form = PLACES[place](stored_as.transposed)
    path = stored_as.model(tmp_path / "a.onnx", form, opset, length=length)
    made = make_engine(path, CPU, "int8")
    opened = "sequence axis opened (was 384), logits proven equal"
    assert made.prepared.note == (opened if length else "as it is")
    assert (made.prepared.signature.products, made.prepared.signature.quantised) == (2, 2)
    proof = "2 of 2 matrix products on CPUExecutionProvider, 2 of 2 calculated in int8"
    assert made.proof == proof


def test_dynamically_quantised_products_count_as_integer_once_they_are_fused(
    tmp_path: Path,
) -> None:
    made = make_engine(stored_as.model(tmp_path / "a.onnx", stored_as.dynamic), CPU, "int8")
    proof = "2 of 2 matrix products on CPUExecutionProvider, 2 of 2 calculated in int8"
    assert made.proof == proof
    given = arrays(2, 40)
    assert made.logits(*given) == pytest.approx(tiny.logits(*given), abs=0.6)


@pytest.mark.parametrize(
    ("ran", "precision", "said"),
    [
        ({"fp32": 49}, "fp32", "49 of 49 calculated in fp32"),
        ({"int8": 3}, "int8", "3 of 3 calculated in int8"),
        ({"int8": 37, "fp32": 12}, "int8", "37 of 49 calculated in int8, the rest in fp32"),
        (
            {"int8": 1, "fp32": 2, PARTLY: 3},
            "int8",
            "1 of 6 calculated in int8, 2 in fp32, 3 partly quantised",
        ),
        ({"fp16": 48, "fp32": 1}, "fp16", "48 of 49 calculated in fp16, the rest in fp32"),
    ],
)
def test_products_are_told_by_how_they_ran(ran: dict[str, int], precision: str, said: str) -> None:
    assert proofs.verdict(ran, CPU, precision) == said


@pytest.mark.parametrize(
    ("ran", "precision", "complaint"),
    [
        ({"fp32": 48, "int8": 1}, "fp32", "of 49 matrix products, cpu calculates 1 in int8; use"),
        ({"fp32": 1, "fp16": 1}, "fp32", "of 2 matrix products, cpu calculates 1 in fp16; give"),
        ({"bf16": 2}, "fp16", "was asked for fp16 but calculates every matrix product in bf16 on"),
        ({"fp32": 2}, "int8", "was asked for int8 but calculates every matrix product in float on"),
        ({"fp32": 1, PARTLY: 1}, "int8", "cpu calculates 1 in fp32 and 1 partly quantised; give"),
        ({}, "fp32", "cpu calculated no matrix product in a trial batch"),
    ],
)
def test_products_that_ran_otherwise_are_refused(
    ran: dict[str, int], precision: str, complaint: str
) -> None:
    with pytest.raises(SuiteError, match=complaint) as caught:
        proofs.verdict(ran, CPU, precision)
    assert is_a_sentence(str(caught.value))


def test_a_loop_s_product_counts_once_and_two_of_one_name_count_twice(tmp_path: Path) -> None:
    def looped(make: stored_as.Writer) -> str:
        made = onnx.helper.make_tensor_value_info
        product = onnx.helper.make_node(
            "MatMul", [make.x, make.constant(make.w)], ["m"], name="same"
        )
        ends = onnx.helper.make_node("Identity", ["go"], ["on"])
        body = onnx.helper.make_graph(
            [product, ends],
            "body",
            [made("i", onnx.TensorProto.INT64, []), made("go", onnx.TensorProto.BOOL, [])],
            [made("on", onnx.TensorProto.BOOL, []), made("m", onnx.TensorProto.FLOAT, None)],
        )
        three, go = make.constant(3, np.int64), make.constant(True, np.bool_)
        every = make.node("Loop", three, go, body=body)
        return make.node("ReduceMean", every, make.constant([0], np.int64), keepdims=0)

    made = make_engine(stored_as.model(tmp_path / "a.onnx", looped))
    assert made.proof.endswith("2 of 2 calculated in fp32")


@pytest.mark.parametrize("parallelism", [Parallelism(3, 1), Parallelism(3, 2)], ids=str)
def test_fp32_is_proven_for_every_session(
    tmp_path: Path, temporary: Path, parallelism: Parallelism
) -> None:
    made = make_engine(tiny.model(tmp_path / "a.onnx", wide=True), CPU, "fp32", parallelism)
    assert made.proof.endswith(", 2 of 2 calculated in fp32")
    for instance in range(3):  # none records what it runs any more
        given = arrays(2, 40)
        found = made.logits(*given, instance=instance)
        assert found == pytest.approx(tiny.logits(*given), abs=1e-4)


@pytest.mark.parametrize(
    ("precision", "said"),
    [
        (
            "fp32",
            "which takes the graph as one: 2 of 2 in fp32 in the model, a small product "
            "calculated in fp32",
        ),
        ("int8", "1 of 2 quantised in the model, the rest in fp32"),
    ],
)
def test_what_could_not_be_seen_node_by_node_is_said_to_be_seen_otherwise(
    tmp_path: Path, precision: str, said: str
) -> None:
    device = replace(CPU, profiles_products=False)  # as OpenVINO and TensorRT are
    made = make_engine(tiny.model(tmp_path / "a.onnx", wide=True), device, precision)
    assert made.proof == f"2 of 2 matrix products on CPUExecutionProvider, {said}"


def test_the_trial_batch_has_several_windows_and_is_not_square(tmp_path: Path) -> None:
    open_axes = tiny.inspect(tiny.model(tmp_path / "a.onnx"))
    ids, mask, segments = proofs.trial_batch(open_axes)
    assert ids.shape == mask.shape == segments.shape == (2, 128)
    assert mask.sum(1).tolist() == [128, 108]
    assert segments.max() == 1
    assert len(np.unique(ids)) > 100
    fixed = tiny.inspect(tiny.model(tmp_path / "b.onnx", batch=3, length=384))
    assert [array.shape for array in proofs.trial_batch(fixed)] == [(3, 384)] * 3


@pytest.mark.parametrize("device", [CPU, CUDA], ids=lambda device: device.name)
def test_every_product_is_proven_where_the_runtime_runs_node_by_node(device: Any) -> None:
    assert device.profiles_products


def test_every_operator_of_this_runtime_that_multiplies_matrices_is_known() -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    if not hasattr(runtime, "get_all_operator_schema"):
        pytest.skip("this ONNX Runtime doesn't tell its operators")
    names = {schema.name for schema in runtime.get_all_operator_schema()}
    words = re.compile("MatMul|Gemm|Conv|Attention|Einsum|LSTM|GRU|RNN|MoE|BlockQuantized")
    # A wrapper for TensorRT, parts of an attention that calculate no product, and one of training.
    others = {"DisentangledAttention_TRT", "GRUUnit", "GemmaRotaryEmbedding", "LinearAttentionGate"}
    others |= {"PackedSparseAttentionIndexer", "SparseAttentionIndexer"}
    assert {name for name in names if words.search(name)} - others <= set(PRODUCTS)
