"""The rate that Server is asked for after a probe is one that the device can keep up for good."""

import subprocess
import sys
from pathlib import Path

import pytest

from bertsquad.batching import Cost, sustainable_rate

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "seconds",
    [
        3e-3,
        1e-3,
        pytest.param(
            3e-4,
        ),
    ],
)
def test_a_probed_rate_is_never_more_than_the_device_can_do(seconds: float) -> None:
    # Without a base cost batches gain nothing, so this many a second is all there is.
    most = 1 / seconds
    rate = sustainable_rate([100] * 50, 0.13, Cost(0.0, seconds / 100))
    assert rate is not None
    assert 0.5 * most < rate < most


def test_the_search_for_a_rate_ends_on_a_fast_device_too() -> None:
    code = (
        "from bertsquad.batching import Cost, sustainable_rate\n"
        "print(sustainable_rate([100] * 50, 0.13, Cost(0.0, 5e-7)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert 0 < float(done.stdout) < 20_000
