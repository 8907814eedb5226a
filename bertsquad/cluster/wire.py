"""What goes to a node and comes back, as bytes: Ray needs twice the time for objects with arrays.

A call is int32 numbers, an answer the seconds as float64 and then the logits as float32, all in the
order of the machine's bytes, which nodes of one cluster share.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bertsquad.squad.features import Inputs


def call(inputs: Inputs, sizes: Sequence[int], numbers: Sequence[int]) -> bytes:
    """Batches of so many windows each; `numbers` are those of the windows in the data set."""
    head = np.array([len(inputs), len(sizes), *sizes, *numbers], np.int32)
    lengths = np.diff(inputs.offsets).astype(np.int32)
    return b"".join(one.tobytes() for one in (head, inputs.segment_start, lengths, inputs.tokens))


def read_call(data: bytes) -> tuple[Inputs, list[int], list[int]]:
    """The windows, the sizes of the batches, and the numbers of the windows."""
    content = np.frombuffer(data, np.int32)
    windows, batches = int(content[0]), int(content[1])
    sizes, numbers, segment_start, lengths, tokens = np.split(
        content[2:], np.cumsum([batches, windows, windows, windows])
    )
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))).astype(np.int64)
    return Inputs(tokens, offsets, segment_start), sizes.tolist(), numbers.tolist()


def answer(logits: NDArray[np.float32], seconds: Sequence[float]) -> bytes:
    """The logits of all samples one after the other [tokens, 2], and the seconds of each batch."""
    return np.array(seconds, np.float64).tobytes() + logits.astype(np.float32).tobytes()


def read_answer(data: bytes, batches: int) -> tuple[NDArray[np.float32], list[float]]:
    """Logits float32 [tokens, 2], and the seconds of each of so many batches."""
    seconds = np.frombuffer(data, np.float64, batches)
    return np.frombuffer(data, np.float32, offset=8 * batches).reshape(-1, 2), seconds.tolist()
