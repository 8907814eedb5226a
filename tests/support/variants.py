"""What exporters, optimisers and quantisers make of a model: the same graph in many forms."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, version_converter

from bertsquad.machine import processor
from bertsquad.models.signature import Signature, examine

Made = Callable[[Path, Path], Path]
Window = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def optimised(path: Path, out: Path) -> Path:
    """As ONNX Runtime's `transformers.optimizer` writes it: embeddings and attention fused."""
    from onnxruntime.transformers import optimizer

    found = optimizer.optimize_model(str(path), "bert", num_heads=0, hidden_size=0, opt_level=0)
    found.save_model_to_file(str(out))
    return out


def optimised_in_half(path: Path, out: Path) -> Path:
    """The same, with `--float16`."""
    from onnxruntime.transformers import optimizer

    found = optimizer.optimize_model(str(path), "bert", num_heads=0, hidden_size=0, opt_level=0)
    found.convert_float_to_float16(keep_io_types=False)
    found.save_model_to_file(str(out))
    return out


def by_runtime(path: Path, out: Path) -> Path:
    """As a session of ONNX Runtime writes what it has optimised."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(out)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    whole = onnx.load(str(path)).SerializeToString()  # with its weights inside
    ort.InferenceSession(whole, options, providers=["CPUExecutionProvider"])
    return out


def dynamic(path: Path, out: Path) -> Path:
    """As `quantize_dynamic` writes it: weights and embeddings int8, activations as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # The types of what is in between aren't always in the file.
    extra = {"DefaultTensorType": TensorProto.FLOAT}
    quantize_dynamic(str(path), str(out), weight_type=QuantType.QInt8, extra_options=extra)
    return out


def dynamic_optimised(path: Path, out: Path) -> Path:
    """The same of an optimised model, as ONNX Runtime's guide says."""
    return dynamic(optimised(path, out.with_name(f"fused-{out.name}")), out)


def _static(path: Path, out: Path, form: str) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds = iter(feeds(examine(path)[0]))

        def get_next(self) -> Any:
            return next(self._feeds, None)

    quantize_static(
        str(path), str(out), Reader(), quant_format=QuantFormat[form], op_types_to_quantize=None
    )
    return out


def qdq(path: Path, out: Path) -> Path:
    """As `quantize_static` writes it: QuantizeLinear and DequantizeLinear around everything."""
    return _static(path, out, "QDQ")


def qoperator(path: Path, out: Path) -> Path:
    """The same in operators of integers."""
    return _static(path, out, "QOperator")


def half(path: Path, out: Path) -> Path:
    """In half precision, its outputs too."""
    return _half(path, out, keep=False)


def half_inside(path: Path, out: Path) -> Path:
    """In half precision, its outputs left in float."""
    return _half(path, out, keep=True)


def _half(path: Path, out: Path, keep: bool) -> Path:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        onnx.save(convert_float_to_float16(model, keep_io_types=keep), str(out))
    return out


def in_opset(version: int) -> Made:
    """In another version of ONNX's operators."""

    def make(path: Path, out: Path) -> Path:
        onnx.save(version_converter.convert_version(onnx.load(str(path)), version), str(out))
        return out

    return make


def four_bits(path: Path, out: Path) -> Path:
    """With weights of four bits, as MatMulNBitsQuantizer writes it, embeddings included."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantiser = MatMulNBitsQuantizer(
        onnx.load(str(path)),
        block_size=16,
        op_types_to_quantize=("MatMul", "Gather"),
        quant_axes=(("MatMul", 0), ("Gather", 1)),
    )
    quantiser.process()
    quantiser.model.save_model_to_file(str(out))
    return out


def stacked(path: Path, out: Path) -> Path:
    """With start and end logits as the columns of one output."""
    model = onnx.load(str(path))
    graph = model.graph
    names = [value.name for value in graph.output]
    start, end = (next(n for n in names if word in n) for word in ("start", "end"))
    last = helper.make_tensor("last_axis", TensorProto.INT64, [1], [2])
    graph.initializer.append(last)
    columns = []
    for name in (start, end):
        graph.node.append(helper.make_node("Unsqueeze", [name, "last_axis"], [f"{name}_column"]))
        columns.append(f"{name}_column")
    graph.node.append(helper.make_node("Concat", columns, ["logits"], axis=-1))
    del graph.output[:]
    shape: list[str | int] = ["batch_size", "sequence_length", 2]
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape))
    onnx.save(model, str(out))
    return out


def feeds(signature: Signature, count: int = 4) -> Iterator[dict[str, NDArray[Any]]]:
    """Windows of random ids, the last of each batch padded."""
    for index, (ids, mask, segments) in enumerate(windows(signature)):
        if index < count:
            yield signature.feed(ids, mask, segments)


def windows(signature: Signature) -> Iterator[Window]:
    """Ids, mask and segments of batches of two, of several lengths."""
    rng = np.random.default_rng(3)
    for length in (12, 40, 65, 130):
        ids = signature.random_ids(rng, (2, length))
        mask, segments = np.ones_like(ids), np.zeros_like(ids)
        segments[:, length // 3 :] = 1
        mask[-1, length - 5 :] = 0
        yield ids * mask, mask, segments * mask


def directly(path: Path, feed: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """What ONNX Runtime alone answers: all outputs by name."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not processor.has_vnni():  # else sums of products of bytes may overflow there
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feed)), strict=True))


def whole(path: Path, out: Path) -> Path:
    """As it is, with all weights in its file."""
    onnx.save(onnx.load(str(path)), str(out))
    return out


#: Each form, by what it is called.
FORMS: dict[str, Made] = {
    "as it is": whole,
    "stacked": stacked,
    "by the runtime": by_runtime,
    "optimised": optimised,
    "optimised, half": optimised_in_half,
    "optimised, dynamic": dynamic_optimised,
    "dynamic": dynamic,
    "QDQ": qdq,
    "QOperator": qoperator,
    "half": half,
    "half inside": half_inside,
    "four bits": four_bits,
    **{f"opset {version}": in_opset(version) for version in (11, 13, 17, 20, 23, 26, 28)},
}
