"""A model file made ready to run: a needlessly fixed signature relaxed, the precision written in.

Three things are done once and kept in the cache, each under the checksum of what it was made from:

- MLPerf's models were exported with a sequence axis of 384, though nothing in them needs it; at the
  data's own lengths they do less than half the work. Such a model is copied with the axis left
  open, and the copy is believed only after it gave the same logits as the original.
- For `int8` a float model is quantised (`quantise.py`).
- For `fp16` a float model's weights and calculations are made half precision, and compared.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pooch
from numpy.typing import NDArray

from bertsquad.assets.cache import cached
from bertsquad.errors import SuiteError, out_of_memory
from bertsquad.files import write_whole
from bertsquad.models import quantisation
from bertsquad.models.calibration import Calibration
from bertsquad.models.signature import Feed, Opener, Signature, examine, load_graph
from bertsquad.progress import Show, Step, unseen

#: Part of the names in the cache: to be raised whenever preparation does something else.
FORMAT = 2
#: How far the logits of a relaxed model may be from those of the original.
TOLERANCE = 1e-3
#: The same for a model made half precision, in parts of the largest logit.
HALF_TOLERANCE = 0.02
#: The lengths at which models are compared.
PROOF_LENGTHS = (16, 61, 128, 200, 383)


@dataclass(frozen=True)
class Prepared:
    """The file to run, how to feed it, and what was done to it, in words for the user.

    The words say too where the cache held a damaged or older file, which was made anew.
    """

    path: Path
    signature: Signature
    note: str


def prepare(
    path: Path,
    key: str,
    device: str,
    precision: str,
    open_model: Opener,
    calibration: Callable[[], Calibration],
    show: Show = unseen,
) -> Prepared:
    """Make the model at `path` ready for a device and a precision, from the cache if done before.

    `key` names the content of the file (its checksum). `open_model` runs models for proofs and
    calibration; `calibration` is asked for only where a model must be quantised. Raises SuiteError
    where the model is none, or is not fit for the precision.
    """
    signature, weights = examine(path)
    _check_precision(signature, path, precision)
    prepared = _relax(path, key, signature, open_model, show)
    if precision == "int8" and not signature.quantised:
        key = _whole_key(key, weights)
        return _quantise(prepared, key, device, open_model, calibration(), show)
    if precision == "fp16" and not signature.half:
        return _halve(prepared, _whole_key(key, weights), open_model, show)
    return prepared


def _whole_key(key: str, weights: list[Path]) -> str:
    """`key`, made one of the weights too where they lie in other files than the graph."""
    if not weights:
        return key
    digest = hashlib.sha256(key.encode())
    for file in weights:
        digest.update(pooch.file_hash(str(file)).encode())
    return digest.hexdigest()[:32]


def _check_precision(signature: Signature, path: Path, precision: str) -> None:
    """SuiteError unless the model's own products are fit for `precision`."""
    name, total = path.name, signature.products
    if signature.quantised and precision != "int8":
        raise SuiteError(
            f"{name} is quantised ({signature.quantised} of {total} matrix products), so it can't "
            f"run in {precision}: use --precision int8"
        )
    if signature.half and precision != "fp16":
        raise SuiteError(
            f"{name} holds {signature.half} of {total} matrix products in half precision, so it "
            f"can't run in {precision}: give the float32 model"
        )


def _relax(path: Path, key: str, signature: Signature, open_model: Opener, show: Show) -> Prepared:
    """Open the sequence axis where the signature fixes it and the graph doesn't need that."""
    if signature.length is None:
        return Prepared(path, signature, "as it is")
    padded = Prepared(
        path, signature, f"needs {signature.length} tokens always, so every sample is padded"
    )
    opened = replace(signature, length=None)

    def make(file: Path) -> dict[str, Any]:
        show(Step("opening the sequence axis"))
        if not _write_opened(path, file, signature):
            return {"equal": False}
        difference = _difference((path, signature), (file, opened), open_model)
        equal = difference is not None and difference <= TOLERANCE
        if not equal:
            file.unlink()
        return {"equal": equal, "largest_difference": difference}

    file, facts, anew = cached(f"{key}-{FORMAT}.onnx", ("equal",), make)
    if not facts["equal"]:
        return replace(padded, note=padded.note + anew)
    note = f"sequence axis opened (was {signature.length}), logits proven equal{anew}"
    return Prepared(file, opened, note)


def _write_opened(path: Path, file: Path, signature: Signature) -> bool:
    """Write the model at `path` with its sequence axis open; False where that can't be."""
    model = load_graph(path)
    if any(tensor.external_data for tensor in model.graph.initializer):
        return False  # the copy would lose sight of the data beside the original
    wanted = (signature.ids, signature.mask, signature.segments, signature.start, signature.end)
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.name in wanted and len(dims) >= 2:
            dims[1].dim_param = "seq_len"
    del model.graph.value_info[:]
    write_whole(file, lambda part: onnx.save(model, part))
    return True


def _quantise(
    prepared: Prepared,
    key: str,
    device: str,
    open_model: Opener,
    calibration: Calibration,
    show: Show,
) -> Prepared:
    """Quantise a float model; OpenVINO fuses only activations without zero points."""
    symmetric = device == "openvino"

    def make(file: Path) -> dict[str, Any]:
        feeds = [_feed(prepared.signature, window) for window in calibration.windows]
        return asdict(
            quantisation.quantise(prepared.path, file, feeds, open_model, symmetric, show)
        )

    kind = "s8" if symmetric else "u8"
    name = f"{key}-{kind}-{calibration.key}-{FORMAT}-{quantisation.FORMAT}.onnx"
    file, report, anew = cached(name, ("products", "quantised"), make)
    signature = replace(
        prepared.signature, products=report["products"], quantised=report["quantised"]
    )
    note = (
        f"{prepared.note}; {report['quantised']} of {report['products']} matrix products "
        f"quantised, calibrated with {calibration.note}{anew}"
    )
    return Prepared(file, signature, note.removeprefix("as it is; "))


def _feed(signature: Signature, window: tuple[NDArray[np.int64], ...]) -> Feed:
    """One window, padded only where the model wants a fixed length or batch."""
    room = ((0, 0), (0, (signature.length or window[0].shape[1]) - window[0].shape[1]))
    ids, mask, segments = (
        np.repeat(np.pad(array, room), signature.batch or 1, axis=0) for array in window
    )
    return signature.feed(ids, mask, segments)


def _halve(prepared: Prepared, key: str, open_model: Opener, show: Show) -> Prepared:
    """Make a float model half precision, its inputs and outputs left as they are."""
    signature = prepared.signature

    def make(file: Path) -> dict[str, Any]:
        show(Step("converting to half precision"))
        _write_half(prepared.path, file)
        before, after = (prepared.path, signature), (file, signature)
        difference = _difference(before, after, open_model, relative=True)
        if difference is None or not difference <= HALF_TOLERANCE:
            file.unlink()
            return {"equal": False, "largest_difference": difference}
        return {"equal": True, "largest_difference": difference}

    name = f"{key}-fp16-{FORMAT}.onnx"
    file, facts, anew = cached(name, ("equal", "largest_difference"), make)
    if not facts["equal"]:
        found = facts["largest_difference"]
        why = (
            "converted to half precision it can't be loaded or run"
            if found is None
            else f"its logits in half precision are not those of the float model (largest "
            f"difference {found:.3g}, in parts of the largest logit, where {HALF_TOLERANCE} is "
            "allowed)"
        )
        raise SuiteError(f"{prepared.path.name} can't run in fp16: {why}")
    note = f"{prepared.note}; converted to half precision, logits compared on the CPU{anew}"
    return Prepared(file, signature, note.removeprefix("as it is; "))


def _write_half(path: Path, file: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(str(path))
    half = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)
    write_whole(file, lambda part: onnx.save(half, part))


def _difference(
    before: tuple[Path, Signature],
    after: tuple[Path, Signature],
    open_model: Opener,
    relative: bool = False,
) -> float | None:
    """The largest difference between the logits of two models, None where the second fails.

    The first may have a fixed length and is padded to it. With `relative` in parts of the largest
    logit.
    """
    original, changed = ([*_proof_feeds(signature)] for _, signature in (before, after))
    run = open_model(before[0])
    expected = [run(feed) for feed in original]
    del run  # one model in memory at a time
    try:
        run = open_model(after[0])
        found = [run(feed) for feed in changed]
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        if out_of_memory(error):
            raise  # says nothing of the model, so it must not be remembered
        return None
    largest = 0.0
    for wants, gots in zip(expected, found, strict=True):
        for want, got in zip(wants, gots, strict=True):
            want = want[:, : got.shape[1]]
            scale = (relative and float(np.abs(want).max())) or 1.0
            difference = float(np.abs(want - got).max()) / scale
            largest = float(np.max([largest, difference]))  # NaN where any is
    return largest


def _proof_feeds(signature: Signature) -> Iterator[Feed]:
    """Random windows at the lengths of the proof, padded where the signature is fixed."""
    rng = np.random.default_rng(0)
    for length in PROOF_LENGTHS:
        shape = (signature.batch or 2, signature.length or length)
        ids, mask, segments = (np.zeros(shape, np.int64) for _ in range(3))
        # Ids that every BERT vocabulary has, its special ones left out.
        ids[:, :length] = rng.integers(1000, 20_000, (shape[0], length))
        mask[:, :length] = 1
        segments[:, length // 3 : length] = 1
        yield signature.feed(ids, mask, segments)
