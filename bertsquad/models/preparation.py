"""A model file made ready to run: a needlessly fixed length opened, the precision written in.

Three things are done once and kept in the cache, named by the checksum of what they were made from:

- MLPerf's models were exported with a sequence axis of 384, though nothing in them needs it; at the
  data's own lengths they do less than half the work. Such a model is copied with the axis left
  open, and the copy is believed only after it gave the same logits as the original.
- For `int8` a float model is quantised (`quantisation.py`).
- For `fp16` a float model's weights and calculations are made half precision, and its logits are
  compared with the original's.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from bertsquad import typed
from bertsquad.assets.cache import Derived, Facts, derived_model
from bertsquad.assets.fingerprint import Fingerprint, ModelFiles, verify
from bertsquad.devices import DEVICES
from bertsquad.errors import SuiteError
from bertsquad.models import quantisation
from bertsquad.models.asking import Known, ask
from bertsquad.models.calibration import Calibration
from bertsquad.models.equality import (
    HALF_TOLERANCE,
    TOLERANCE,
    Compared,
    Equal,
    compare,
)
from bertsquad.models.onnx_file import load_model, save_model
from bertsquad.models.products import HALVES, PARTLY
from bertsquad.models.reads import AS_MLPERF, Reads
from bertsquad.models.scales import Quantisation
from bertsquad.models.signature import Opener, Signature, examine
from bertsquad.models.stored import Stored
from bertsquad.progress import Show, Step, unseen
from bertsquad.squad.features import MAX_TOKENS

#: Part of the names in the cache: to be raised whenever preparation does something else.
FORMAT = 2


@dataclass(frozen=True)
class Prepared:
    """The file to run, how to feed it, and the steps that were done to it, in words for people.

    `rebuilt` is "damaged" or "older" where the cache held such a copy, which was made again.
    `files` are what was checked of it: whoever opens it verifies them. `quantisation` is None for
    one that isn't int8.
    """

    path: Path
    signature: Signature
    steps: tuple[str, ...] = ()
    rebuilt: str | None = None
    files: tuple[Fingerprint, ...] = field(default=(), compare=False)
    quantisation: Quantisation | None = None

    @property
    def note(self) -> str:
        """What was done to the model, as a clause for people."""
        return "; ".join(self.steps) or "as it is"


def prepare(
    model: ModelFiles,
    device: str,
    precision: str,
    open_model: Opener,
    calibration: Callable[[], Calibration],
    show: Show = unseen,
    reads: Reads = AS_MLPERF,
    known: Callable[[], Known] | None = None,
) -> Prepared:
    """Make a model ready for a device and a precision, from the cache if that was done before.

    `open_model` runs models to compare and calibrate them; `calibration` is called only where a
    model must be quantised, and `known` only where its outputs don't say which logits they hold.
    Raises SuiteError where the file is no extractive-QA model, doesn't fit what it `reads`, can't
    run in the precision, or isn't any more what it was when its checksum was taken.
    """
    path, key = model.path, model.key
    if reads.longest > MAX_TOKENS:  # a copy is proven for windows of some length
        key = f"{key}-{reads.longest}"
    verify(model.files)
    signature, weights = examine(path, reads)
    if [str(file) for file in weights] != [one.path for one in model.files[1:]]:
        raise SuiteError(
            f"{path} names other files of weights than when its checksum was taken: run again"
        )
    _check_precision(signature.stored, path.name, precision)
    prepared = _open_zero_sizes(Prepared(path, signature, files=model.files), key, show)
    prepared = _name_outputs(prepared, path, known, open_model, show)
    prepared = _open_length(prepared, key, open_model, show)
    if precision == "int8" and not signature.quantised:
        prepared = _quantise(prepared, key, device, open_model, calibration(), show)
    elif precision == "int8":
        made = Quantisation(signature.products, signature.quantised, by_suite=False)
        prepared = replace(prepared, quantisation=made)
    elif precision == "fp16" and not signature.half:
        prepared = _halve(prepared, path, key, open_model, show)
    verify(model.files)  # which the signature was read from
    return prepared


def _derived(
    name: str, kind: type[Any] | None, made_of: Prepared, make: Callable[[Path], Facts]
) -> Derived[Facts]:
    """The derived model `name`, kept only if what it was made of was the same all the time."""

    def make_and_verify(file: Path) -> Facts:
        verify(made_of.files)
        try:
            facts = make(file)
        except Exception:
            verify(made_of.files)  # a change would be the reason
            raise
        verify(made_of.files)
        return facts

    return derived_model(name, kind, make_and_verify)


def _check_precision(stored: Stored, name: str, precision: str) -> None:
    """SuiteError where the model is stored in another precision that excludes `precision`."""
    total, partly = stored.products, stored.kinds.get(PARTLY, 0)
    so = f"so it can't run in {precision}"
    if stored.quantised and precision != "int8":
        raise SuiteError(
            f"{name} is quantised ({stored.quantised} of {total} matrix products), {so}: "
            "use --precision int8"
        )
    if partly and not stored.quantised:
        raise SuiteError(
            f"{name} is quantised in its weights or activations alone, or not to 8 bits "
            f"({', '.join(stored.forms)} in {partly} of {total} matrix products), {so}: give the "
            "float32 model"
        )
    half = {kind: count for kind, count in stored.kinds.items() if kind in HALVES - {precision}}
    if half:
        other = ", or use --precision fp16 on a GPU" if half.keys() == {"fp16"} else ""
        raise SuiteError(
            f"{name} holds {sum(half.values())} of {total} matrix products in half precision "
            f"({' and '.join(half)}), {so}: give the float32 model{other}"
        )
    if "fp64" in stored.kinds:
        raise SuiteError(
            f"{name} holds {stored.kinds['fp64']} of {total} matrix products in double precision, "
            f"{so}: give the float32 model"
        )
    if stored.quantisers and precision != "int8":
        raise SuiteError(
            f"{name} holds quantised values, though no quantised matrix product "
            f"({', '.join(stored.quantisers)}), {so}: give the float32 model"
        )


def _open_zero_sizes(prepared: Prepared, key: str, show: Show) -> Prepared:
    """Leave open what is said to have a size of 0.

    Some exports mean an open axis by it; ONNX Runtime takes it at its word and can't be fed then.
    """
    if not prepared.signature.zero_sized:
        return prepared

    def make(file: Path) -> Facts:
        show(Step("opening axes"))
        _write_opened(prepared, file, lambda axis, size: size <= 0)
        return {}

    found = _derived(f"{key}-opened-{FORMAT}.onnx", None, prepared, make)
    signature = replace(prepared.signature, zero_sized=False)
    return Prepared(found.path, signature, ("sizes of 0 opened",), found.rebuilt, found.files)


def _name_outputs(
    prepared: Prepared,
    path: Path,
    known: Callable[[], Known] | None,
    open_model: Opener,
    show: Show,
) -> Prepared:
    """Find out which outputs hold the logits, and say what wasn't told by names."""
    signature, how = prepared.signature, ""
    if signature.candidates:
        show(Step("asking which outputs are which"))
        told, count = ask(path, signature, known, partial(open_model, prepared.path))
        signature = replace(signature, start=told.start, end=told.end, candidates=())
        how = f"told by {count} known questions"
    elif signature.reads.outputs is not None:
        how = "as asked for"
    if signature.stacked:
        step = f"the columns of {signature.start} taken for start and end logits"
    elif how:
        step = f"start and end logits are {signature.start} and {signature.end}, {how}"
    else:
        return prepared
    return replace(prepared, signature=signature, steps=(*prepared.steps, step))


def _open_length(prepared: Prepared, key: str, open_model: Opener, show: Show) -> Prepared:
    """Open the sequence axis where the signature fixes it and the graph doesn't need that."""
    path, signature = prepared.path, prepared.signature
    if signature.length is None:
        return prepared
    opened = replace(signature, length=None)

    def make(file: Path) -> Facts:
        show(Step("opening the sequence axis"))
        _write_opened(prepared, file, lambda axis, size: axis == 1)
        return compare((path, signature), (file, opened), open_model, TOLERANCE)

    found = _derived(f"{key}-{FORMAT}.onnx", Equal, prepared, make)
    rebuilt = prepared.rebuilt or found.rebuilt
    if not found.content["equal"]:
        step = f"needs {signature.length} tokens always, so every sample is padded"
        return replace(prepared, steps=(*prepared.steps, step), rebuilt=rebuilt)
    step = f"sequence axis opened (was {signature.length}), logits proven equal"
    return Prepared(found.path, opened, (*prepared.steps, step), rebuilt, found.files)


def _write_opened(prepared: Prepared, file: Path, opens: Callable[[int, int], bool]) -> None:
    """Write a model with axes of its inputs and outputs open, those that `opens` says.

    It is given an axis and its size, 0 where that is open already. The copy holds the weights that
    lie beside the original.
    """
    model, signature = load_model(prepared.path), prepared.signature
    logits = {signature.start, signature.end, *signature.candidates}
    for value in (*model.graph.input, *model.graph.output):
        if value.name in (*signature.inputs, *logits):
            for axis, dim in enumerate(value.type.tensor_type.shape.dim[:2]):
                if opens(axis, dim.dim_value):
                    dim.dim_param = ("batch", "seq_len")[axis]
        elif value.name in signature.outputs:  # another, which may be as long in any axis
            value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    save_model(model, file)


def _quantise(
    prepared: Prepared,
    key: str,
    device: str,
    open_model: Opener,
    calibration: Calibration,
    show: Show,
) -> Prepared:
    """Quantise a float model."""
    symmetric = DEVICES[device].symmetric_int8

    def make(file: Path) -> Facts:
        feeds = [prepared.signature.feed_one(*window) for window in calibration.windows]
        return asdict(
            quantisation.quantise(prepared.path, file, feeds, open_model, symmetric, show)
        )

    kind = "s8" if symmetric else "u8"
    name = f"{key}-{kind}-{calibration.key}-{FORMAT}-{quantisation.FORMAT}.onnx"
    found = _derived(name, quantisation.Report, prepared, make)
    report = typed.build(quantisation.Report, found.content)
    made = report.as_fact(calibration.note, len(calibration.windows))
    signature = _examine_again(found.path, prepared.signature)
    step = (
        f"{made.quantised} of {made.products} matrix products quantised, calibrated with "
        f"{calibration.note}"
    )
    rebuilt = prepared.rebuilt or found.rebuilt
    return Prepared(found.path, signature, (*prepared.steps, step), rebuilt, found.files, made)


def _examine_again(path: Path, before: Signature) -> Signature:
    """The signature of a copy of a model that had the signature `before`."""
    again, _ = examine(path, replace(before.reads, outputs=(before.start, before.end)))
    return replace(again, reads=before.reads)


def _halve(prepared: Prepared, path: Path, key: str, open_model: Opener, show: Show) -> Prepared:
    """Make a float model half precision, its inputs and outputs left as they are."""
    signature = prepared.signature

    def make(file: Path) -> Facts:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        show(Step("converting to half precision"))
        model = load_model(prepared.path)
        half = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)
        save_model(half, file)
        before, after = (prepared.path, signature), (file, signature)
        return compare(before, after, open_model, HALF_TOLERANCE, relative=True)

    name = f"{key}-fp16-{FORMAT}.onnx"
    found = _derived(name, Compared, prepared, make)
    if not found.content["equal"]:
        difference = found.content["largest_difference"]
        why = (
            "converted to half precision it can't be loaded or run"
            if difference is None
            else f"its logits in half precision are not those of the float model (largest "
            f"difference {difference:.3g}, in parts of the largest logit, where {HALF_TOLERANCE} "
            "is allowed)"
        )
        raise SuiteError(f"{path.name} can't run in fp16: {why}")
    steps = (*prepared.steps, "converted to half precision, logits compared on the CPU")
    signature = _examine_again(found.path, signature)
    rebuilt = prepared.rebuilt or found.rebuilt
    return Prepared(found.path, signature, steps, rebuilt, found.files)
