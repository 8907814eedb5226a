"""What goes over the wire comes out as it went in."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bertsquad.cluster import wire
from bertsquad.squad.features import Inputs

WINDOWS = st.lists(
    st.tuples(st.lists(st.integers(0, 2**31 - 1), max_size=8), st.integers(0, 384)), min_size=1
)


@given(WINDOWS, st.data())
def test_a_call_is_read_as_it_was_written(
    windows: list[tuple[list[int], int]], data: st.DataObject
) -> None:
    lengths = [len(tokens) for tokens, _ in windows]
    inputs = Inputs(
        np.array([token for tokens, _ in windows for token in tokens], np.int32),
        np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        np.array([start for _, start in windows], np.int32),
    )
    cut = data.draw(st.integers(1, len(windows)))
    sizes = [cut, len(windows) - cut][: 2 if cut < len(windows) else 1]
    numbers = data.draw(
        st.lists(st.integers(0, 10**9), min_size=len(windows), max_size=len(windows))
    )

    found, found_sizes, found_numbers = wire.read_call(wire.call(inputs, sizes, numbers))

    assert (found_sizes, found_numbers) == (sizes, numbers)
    for name, array in vars(inputs).items():
        np.testing.assert_array_equal(getattr(found, name), array)
        assert getattr(found, name).dtype == array.dtype


@given(st.lists(st.floats(width=32), max_size=40), st.lists(st.floats(0, 1e6), min_size=1))
def test_an_answer_keeps_every_bit(values: list[float], seconds: list[float]) -> None:
    logits = np.array(values[: len(values) // 2 * 2], np.float32).reshape(-1, 2)

    found, found_seconds = wire.read_answer(wire.answer(logits, seconds), len(seconds))

    assert found.tobytes() == logits.tobytes() and found.dtype == np.float32
    assert found_seconds == seconds
