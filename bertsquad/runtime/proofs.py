"""Proofs of what a session really is: its provider and its precision.

Only the worker process imports this module.
"""

import numpy as np
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import onnxruntime as ort
from numpy.typing import NDArray

from bertsquad.devices import DEVICES, Device
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.models.products import PRODUCTS
from bertsquad.runtime import nvidia
from bertsquad.runtime.availability import why_not
from bertsquad.runtime.parallelism import ONE
from bertsquad.runtime.sessions import make_session


def prove_provider(session: ort.InferenceSession, device: Device) -> str:
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
        reason = (
            f"{device.provider} doesn't run the model here; of {total} matrix products, {where}"
        )
        raise Unavailable(f"{reason}{why}", of=device.name)
    return f"{total} of {total} matrix products on {device.provider}"


def prove_precision(device: Device, precision: str) -> None:
    """Multiply numbers that only fp32 tells apart from 1, and see whether the device does.

    1 + 2**-12 has more bits than bf16, fp16 or TF32 keep.
    """
    value = np.float32(1 + 2.0**-12)
    size = 64
    model = one_product(np.eye(size, dtype=np.float32), precision)
    session = make_session(model, device, precision, ONE)
    prove_provider(session, device)
    (found,) = session.run(None, {"x": np.full((size, size), value, np.float32)})
    exact = bool((np.asarray(found) == value).all())
    if exact != (precision == "fp32"):
        really = "fp32" if exact else "less than fp32"
        raise Unavailable(
            f"{device.name} was asked for {precision} but calculates in {really} on this machine"
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


def can_calculate(device: Device, precision: str) -> bool:
    """Whether the device really calculates in `precision` on this machine, by trying."""
    try:
        prove_precision(device, precision)
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
            prove_precision(DEVICES[name], "fp32")
        except Unavailable as error:
            reason = error.reason
        except SuiteError as error:
            reason = str(error)
    return reason
