"""Proofs of what a session really is: its provider and its precision.

Only the worker process imports this module.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import onnxruntime as ort
from numpy.typing import NDArray

from bertsquad.devices import DEVICES, Device
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.machine import gpus
from bertsquad.models.products import PARTLY, PRODUCTS, kind_of
from bertsquad.models.signature import Signature
from bertsquad.runtime import nvidia
from bertsquad.runtime.availability import why_not
from bertsquad.runtime.parallelism import Parallelism
from bertsquad.runtime.sessions import make_session, run

#: The tokens of a trial batch's windows, where the model leaves the axis open.
TRIAL_LENGTH = 128


def prove_provider(session: ort.InferenceSession, device: Device, gpu: int = 0) -> str:
    """Say how many matrix products run on the device; Unavailable if any runs elsewhere."""
    owners: dict[str, int] = {}
    for part in session.get_provider_graph_assignment_info():
        count = sum(node.op_type in PRODUCTS for node in part.get_nodes())
        owners[part.ep_name] = owners.get(part.ep_name, 0) + count
    owners = {name: count for name, count in owners.items() if count}
    total = sum(owners.values())
    if total == 0:
        raise SuiteError("the model holds no matrix product, so it is no BERT: give another model")
    elsewhere = {name: count for name, count in owners.items() if name != device.provider}
    if elsewhere:
        where = ", ".join(f"{count} on {name}" for name, count in elsewhere.items())
        why = f" ({nvidia.likely_cause()})" if device.is_gpu else ""
        called = gpus.called(gpu) if device.is_gpu else ""
        here = f"on {called}" if called else "here"
        reason = (
            f"{device.provider} doesn't run the model {here}; of {total} matrix products, {where}"
        )
        raise Unavailable(f"{reason}{why}", of=device.name)
    return f"{total} of {total} matrix products on {device.provider}"


def trial_batch(
    signature: Signature,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Ids, mask and segments [batch, length] such as a run has, of the sizes that a model takes.

    Where they are open, the batch has two windows of which one is padded, and isn't square.
    """
    usual = min(TRIAL_LENGTH, signature.reads.longest)
    shape = signature.batch or 2, signature.length or usual
    ids = signature.random_ids(np.random.default_rng(0), shape)
    mask, segments = np.ones_like(ids), np.zeros_like(ids)
    mask[-1, usual - min(20, usual // 2) :] = 0
    segments[:, 16:] = 1
    return ids * mask, mask, signature.random_segments(segments * mask)


def prove_products(
    session: ort.InferenceSession, device: Device, precision: str, gpu: int = 0
) -> str:
    """Say in what precision a session that was profiled so far has calculated its matrix products.

    The session is on `gpu`, if on any. The profile ends here. Raises Unavailable where the device
    calculates them in another precision, SuiteError where the model is of another.
    """
    profile = Path(session.end_profiling())
    try:
        events = json.loads(profile.read_bytes())
    except (OSError, ValueError) as error:  # ONNX Runtime doesn't say when it can't write it
        raise SuiteError(
            f"{profile}, ONNX Runtime's profile of a batch, is missing or cut: free some space for "
            "temporary files, or set TMPDIR to another folder"
        ) from error
    nodes = [one for one in events if "input_type_shape" in one.get("args", {})]
    around = [one for one in nodes if one["args"]["op_name"] in ("If", "Loop", "Scan")]
    ran: dict[tuple[tuple[str, str], ...], str] = {}
    for node in nodes:
        # An input that the kernel has taken into itself is left out; if all are, the output tells.
        facts = node["args"]
        tensors = (*facts["input_type_shape"], *facts["output_type_shape"])
        kind = kind_of(facts["op_name"], [name for one in tensors for name in one])
        if kind is None:
            continue
        # The body of a loop runs many times, and other graphs may have a node of the same name.
        graphs = [one for one in around if 0 <= node["ts"] - one["ts"] <= one["dur"]]
        places = [(one["name"], one["args"].get("node_index", "")) for one in (node, *graphs)]
        ran[tuple(places)] = kind
    said = verdict(Counter(ran.values()), device, precision, gpu)
    if any(one["args"]["op_name"] == "If" for one in around):
        said += " by a trial batch, which takes one branch of each If"
    return said


def verdict(ran: Mapping[str, int], device: Device, precision: str, gpu: int = 0) -> str:
    """Say of products that ran, counted by `kind_of`, how they were calculated.

    Raises Unavailable or SuiteError where that isn't `precision`. Of a narrower precision than fp32
    it is enough that some products are calculated in it, since a model may keep others in float.
    """
    place = nvidia.where(device, gpu)
    total, wanted = sum(ran.values()), ran.get(precision, 0)
    others = {kind: count for kind, count in sorted(ran.items()) if kind != precision}
    told = [f"{count} {_in_words(kind)}" for kind, count in others.items()]
    if not total:
        raise SuiteError(
            f"{place} calculated no matrix product in a trial batch, so the model's "
            "precision can't be proven: give another model"
        )
    if precision == "fp32" and others:
        cure = "use --precision int8" if "int8" in others else "give the float32 model"
        raise SuiteError(
            f"the model can't run in fp32: of {total} matrix products, {place} calculates "
            f"{' and '.join(told)}; {cure}"
        )
    if not wanted and PARTLY in others:
        raise SuiteError(
            f"the model can't run in {precision}: of {total} matrix products, {place} "
            f"calculates {' and '.join(told)}; give the float32 model"
        )
    if not wanted:
        raise Unavailable(
            f"{place} was asked for {precision} but calculates every matrix product in "
            f"{'float' if precision == 'int8' else ' and '.join(others)} on this machine"
        )
    rest = ["the rest in fp32"] if list(others) == ["fp32"] else told
    return ", ".join([f"{wanted} of {total} calculated in {precision}", *rest])


def _in_words(kind: str) -> str:
    return kind if kind == PARTLY else f"in {kind}"


def prove_precision(device: Device, precision: str, gpu: int = 0) -> None:
    """Multiply numbers that only fp32 tells apart from 1, and see whether the device does.

    1 + 2**-12 has more bits than bf16, fp16 or TF32 keep.
    """
    value = np.float32(1 + 2.0**-12)
    size = 64
    model = one_product(np.eye(size, dtype=np.float32), precision)
    session = make_session(model, device, precision, Parallelism(1, 1, gpus=(gpu,)))
    prove_provider(session, device, gpu)
    (found,) = run(session, None, {"x": np.full((size, size), value, np.float32)}, device, gpu)
    exact = bool((found == value).all())
    if exact != (precision == "fp32"):
        really = "fp32" if exact else "less than fp32"
        raise Unavailable(
            f"{nvidia.where(device, gpu)} was asked for {precision} but calculates in {really} on "
            "this machine"
        )


def one_product(weight: NDArray[np.float32], precision: str) -> bytes:
    """A model that multiplies x, float32 [rows, inputs], by `weight`, for fp16 in halves."""
    dtype = np.dtype(np.float16 if precision == "fp16" else np.float32)
    inputs, outputs = weight.shape
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        product (float[rows, {inputs}] x) => (float[rows, {outputs}] y) {{
            x_inside = Cast <to = {onnx.helper.np_dtype_to_tensor_dtype(dtype)}> (x)
            y_inside = MatMul (x_inside, w)
            y = Cast <to = {onnx.TensorProto.FLOAT}> (y_inside)
        }}
    """)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight.astype(dtype), "w"))
    return bytes(model.SerializeToString())


def _prove_everywhere(device: Device, precision: str) -> None:
    for gpu in range(gpus.count() if device.is_gpu else 1):
        prove_precision(device, precision, gpu)


def can_calculate(device: Device, precision: str) -> bool:
    """Whether the device really calculates in `precision` on this machine, by trying each GPU."""
    try:
        _prove_everywhere(device, precision)
    except SuiteError:
        return False
    return True


def precisions_here(name: str) -> list[str]:
    """The precisions that `name` can calculate in on this machine, by trying.

    int8 is taken as given, since it depends on the model.
    """
    device = DEVICES[name]
    return [one for one in device.precisions if one == "int8" or can_calculate(device, one)]


def why_not_really(name: str) -> str | None:
    """Why `name` can't run a small model on this machine, by trying; None if it can."""
    reason = why_not(DEVICES[name])
    if reason is None:
        try:
            _prove_everywhere(DEVICES[name], "fp32")
        except Unavailable as error:
            reason = error.reason
        except SuiteError as error:
            reason = str(error)
    return reason
