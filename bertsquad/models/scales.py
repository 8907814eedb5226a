"""How an int8 tensor is scaled: smoothed and clipped so that its products err least.

Activations have one scale per tensor, so a few channels with outliers would cost all others their
resolution. Two remedies, both tried for each tensor:

- smoothing (SmoothQuant, arXiv 2211.10438): channel k of the activation is divided by s_k and row k
  of the weights multiplied by it, which changes nothing but moves the outliers into the weights,
- clipping: the range is cut to a part of the largest magnitude.

The pair whose products come closest to the float ones is kept. Nothing is random.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: How much of the outliers smoothing moves into the weights; None is no smoothing.
SMOOTHINGS = (None, 0.6, 0.7, 0.8, 0.9, 1.0)
#: The part of the largest magnitude that the range of an activation reaches to.
CLIPPINGS = (1.0, 0.9, 0.8, 0.7, 0.6)
#: Channels quieter than this part of the loudest are smoothed as if they had this loudness: they
#: may be louder in windows that the calibration doesn't have.
FLOOR = 1e-4

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Quantisation:
    """How a model came to be int8: so many of its matrix products are, and who made them so.

    The rest is None where the file was quantised before this suite had it. `symmetric` activations
    are int8, others uint8 with a zero point; of the `tensors` that enter products, so many were
    `smoothed` and `clipped`; `calibration` names the data, of so many `windows`.
    """

    products: int
    quantised: int
    by_suite: bool
    symmetric: bool | None = None
    tensors: int | None = None
    smoothed: int | None = None
    clipped: int | None = None
    calibration: str | None = None
    windows: int | None = None


@dataclass(frozen=True)
class Activation:
    """What calibration saw of a tensor [..., channels].

    `lowest` and `highest` are of all tokens, float32 [channels]; `rows` are some of the
    tokens, evenly spaced, float32 [tokens, channels].
    """

    lowest: Floats
    highest: Floats
    rows: Floats


@dataclass(frozen=True)
class Choice:
    """How a tensor is quantised.

    `error` is the sum over its products of the squared error, each as a part of the squared output,
    on the calibration's rows.
    """

    tensor: str
    products: int
    smoothing: float | None
    clipping: float
    error: float


@dataclass(frozen=True)
class Quantised:
    """A choice carried out: real = (code - zero) * scale, on both sides of the products.

    `factors` float32 [channels] is what the activation is divided by, None without smoothing;
    `weights` are int8 codes [rows, columns] with their scales float32 [columns] and no zero points.
    """

    choice: Choice
    factors: Floats | None
    scale: np.float32
    zero: int
    weights: list[tuple[NDArray[np.int8], Floats]]


def choose(
    name: str, activation: Activation, weights: Sequence[Floats], symmetric: bool
) -> Quantised:
    """Find the smoothing and clipping of a tensor with which its products err least.

    `weights` are float32 [channels, columns], one for each product that the tensor enters.
    """
    references = [activation.rows @ weight for weight in weights]
    # Where the output is zero, so is its error.
    powers = [_power(reference) or 1.0 for reference in references]
    best = None
    for smoothing in SMOOTHINGS:
        factors = None if smoothing is None else _factors(activation, weights, smoothing)
        divisor = np.float32(1) if factors is None else factors
        rows = activation.rows / divisor
        lowest = float((activation.lowest / divisor).min())
        highest = float((activation.highest / divisor).max())
        stored = [_quantise_weight(weight, factors) for weight in weights]
        for clipping in CLIPPINGS:
            scale, zero = _scale(lowest, highest, clipping, symmetric)
            # Where QuantizeLinear saturates, seen from the zero point.
            ends = (-128, 127) if symmetric else (-zero, 255 - zero)
            codes = np.clip(np.rint(rows / scale), *ends)
            error = math.fsum(
                _power((codes @ matrix) * (scale * scales) - reference) / power
                for (matrix, scales), reference, power in zip(
                    stored, references, powers, strict=True
                )
            )
            if best is None or error < best.choice.error:
                choice = Choice(name, len(weights), smoothing, clipping, error)
                codes_of = [(matrix.astype(np.int8), scales) for matrix, scales in stored]
                best = Quantised(choice, factors, scale, zero, codes_of)
    assert best is not None
    return best


def _power(array: Floats) -> float:
    flat = array.ravel()
    return float(flat @ flat)


def _factors(activation: Activation, weights: Sequence[Floats], smoothing: float) -> Floats:
    """What the channels are divided by, float32 [channels], of geometric mean 1."""
    loudness = np.maximum(-activation.lowest, activation.highest)
    strength = np.max([np.abs(weight).max(1) for weight in weights], 0)
    if not loudness.any() or not strength.any():
        return np.ones_like(loudness)
    logarithms = smoothing * np.log(np.maximum(loudness, FLOOR * loudness.max()))
    logarithms -= (1 - smoothing) * np.log(np.maximum(strength, FLOOR * strength.max()))
    factors: Floats = np.exp(logarithms - logarithms.mean()).astype(np.float32)
    return factors


def _quantise_weight(weight: Floats, factors: Floats | None) -> tuple[Floats, Floats]:
    """Codes from -127 to 127, still float32 [rows, columns], and their scales [columns]."""
    smoothed = weight if factors is None else weight * factors[:, None]
    scales = np.abs(smoothed).max(0) / np.float32(127)
    scales[scales == 0] = 1
    return np.rint(smoothed / scales), scales


def _scale(lowest: float, highest: float, clipping: float, symmetric: bool) -> tuple[Any, int]:
    """Scale and zero point of what lies between the two, after clipping."""
    reach = clipping * max(-lowest, highest)
    low, high = max(min(lowest, 0.0), -reach), min(max(highest, 0.0), reach)
    # What is always zero has any scale.
    scale = np.float32(reach / 127 if symmetric else (high - low) / 255) or np.float32(1)
    return scale, 0 if symmetric else int(np.clip(np.rint(-low / scale), 0, 255))
