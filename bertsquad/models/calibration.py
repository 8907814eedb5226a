"""What enters a model's products, seen on a few calibration windows."""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx.numpy_helper
from numpy.typing import NDArray

from bertsquad.errors import SuiteError
from bertsquad.models.onnx_file import load_model
from bertsquad.models.products import MIN_COLUMNS, products
from bertsquad.models.scales import Activation, Floats
from bertsquad.models.signature import Feed, Opener
from bertsquad.progress import Show, Step, unseen
from bertsquad.squad import features
from bertsquad.squad.datasets import CalibrationSet

#: How many tokens of all windows are kept, on which int8 products are compared with float ones.
ROWS = 512


@dataclass(frozen=True)
class Calibration:
    """What an int8 model is calibrated with: windows, each (ids, mask, segments) [1, length].

    `key` names their content in the cache, `note` says for people which they are.
    """

    key: str
    note: str
    windows: tuple[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], ...]


def calibrate_with(chosen: CalibrationSet) -> Calibration:
    """The calibration by the windows that `chosen` names, read from the file of its features."""
    found = features.load(Path(chosen.features))
    batches = tuple(found.batch([window]) for window in chosen.windows)
    digest = hashlib.sha256(chosen.note.encode())
    for ids, _, _ in batches:
        digest.update(ids.tobytes())
    return Calibration(digest.hexdigest()[:16], chosen.note, batches)


def calibrate(
    path: Path,
    folder: Path,
    feeds: Sequence[Feed],
    open_model: Opener,
    show: Show = unseen,
) -> dict[str, Activation]:
    """Run the model at `path` on `feeds` and record what enters its products, by tensor.

    Meanwhile `folder` holds a copy of the model that has these tensors as outputs. Memory holds no
    more than the model, the tensors of one feed and the sampled rows.
    """
    # Each of a BERT's inputs has one number for each token.
    tokens = [next(iter(feed.values())).size for feed in feeds]
    if not sum(tokens):
        raise SuiteError(f"{path} can't be quantised without calibration windows: none were given")
    sampled = np.linspace(0, sum(tokens) - 1, min(ROWS, sum(tokens))).round().astype(np.int64)
    first = np.cumsum([0, *tokens])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}.", dir=folder) as temporary:
        probe = Path(temporary) / "probe.onnx"
        channels = _write_probe(path, probe)
        seen = {name: _Seen(size) for name, size in channels.items()}
        run = open_model(probe)
        for index, feed in enumerate(feeds):
            show(Step("calibrating", index, len(feeds), "windows"))
            here = sampled[(sampled >= first[index]) & (sampled < first[index + 1])] - first[index]
            for (name, one), array in zip(seen.items(), run(feed), strict=True):
                if not np.isfinite(array).all():
                    raise SuiteError(
                        f"{path} can't be quantised: its tensor {name} isn't finite for "
                        f"calibration window {index + 1}"
                    )
                one.add(array, here, tokens[index])
        del run  # an open session may keep its file from being removed
    return {name: one.activation() for name, one in seen.items()}


class _Seen:
    """What was seen of one tensor so far."""

    def __init__(self, channels: int) -> None:
        self._lowest = np.full(channels, np.inf, np.float32)
        self._highest = np.full(channels, -np.inf, np.float32)
        self._rows: list[Floats] = []

    def add(self, array: NDArray[Any], sampled: NDArray[np.int64], tokens: int) -> None:
        """Add an array [..., channels] of a feed of `tokens`; keep the rows of those sampled."""
        rows = array.reshape(-1, len(self._lowest))
        np.minimum(self._lowest, rows.min(0), out=self._lowest)
        np.maximum(self._highest, rows.max(0), out=self._highest)
        # A tensor may have fewer rows than the feed has tokens, as that of a pooler.
        self._rows.append(rows[np.unique(sampled * len(rows) // tokens)])

    def activation(self) -> Activation:
        return Activation(self._lowest, self._highest, np.concatenate(self._rows))


def _write_probe(path: Path, probe: Path) -> dict[str, int]:
    """Write the model with the inputs of its products as outputs; their names and channels."""
    model = load_model(path)
    channels = {product.activation: product.rows for product in products(model)}
    if not channels:
        raise SuiteError(
            f"{path} holds no float MatMul with a constant matrix of {MIN_COLUMNS} columns or more "
            "outside of functions and branches, so there is nothing to quantise: give a float BERT "
            "of such products"
        )
    del model.graph.output[:]
    for name in channels:
        value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        model.graph.output.append(value)
    # Weights beside the graph spare memory a serialised copy of both.
    onnx.save(model, str(probe), save_as_external_data=True, location=f"{probe.name}.data")
    return channels
