"""`tools/matrix_products.py` counts the work of a model."""

import numpy as np
from matrix_products import Work


def test_work_is_that_of_the_products_at_the_real_lengths() -> None:
    work = Work(((4, 4), (4, 16)), attentions=3)
    lengths = np.array([10, 20])
    linear = 2 * (4 * 4 + 4 * 16) * 30
    attention = 3 * 4 * 4 * (10**2 + 20**2)
    assert work.flop(lengths) == linear + attention
