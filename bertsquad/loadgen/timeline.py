"""When every query was answered and every batch calculated: the raw figures behind the plots.

LoadGen's log has percentiles and a rate, which are the figures that count. Distributions, and what
happened in the course of a run, come from the SUT's own clock.
"""

import math
from array import array
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertsquad import arrays
from bertsquad.errors import SuiteError
from bertsquad.files import unreadable

#: The file of a run folder that holds a Timeline. A run that was broken off leaves one too.
TIMELINE = "timeline.npz"

#: How finely a run is cut for a plot: at most so many spans, each of so many samples on average.
MOST_SPANS, SAMPLES_A_SPAN = 100, 8
#: Points of a percentile curve, evenly spread over the logarithm of what lies above.
CURVE_POINTS = 100
#: The percentiles that every curve has, in per cent: those that LoadGen logs.
PERCENTILES = (50.0, 90.0, 95.0, 97.0, 99.0, 99.9)


def _none() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Share:
    """What a node did of a run: the samples it answered, and the seconds its batches took.

    `samples_per_s` are for the spans of the timeline's `course`.
    """

    samples: int
    busy_s: float
    samples_per_s: list[float]


@dataclass(frozen=True)
class Timeline:
    """What one run did. Times are int64 nanoseconds of one clock of the machine.

    A query is here what LoadGen times: in Offline and Server a sample. A batch is what went through
    the model at once; its padded tokens are its samples times the length they were padded to. Its
    node is that of a cluster which calculated it, 0 on one machine.
    """

    issued_ns: NDArray[np.int64]  # [queries], in the order of completion
    completed_ns: NDArray[np.int64]  # [queries]
    batch_started_ns: NDArray[np.int64]  # [batches], in the order of completion
    batch_completed_ns: NDArray[np.int64]  # [batches]
    batch_samples: NDArray[np.int64]  # [batches]
    batch_tokens: NDArray[np.int64]  # [batches]
    batch_padded_tokens: NDArray[np.int64]  # [batches]
    batch_node: NDArray[np.int64] = field(default_factory=_none)  # [batches]; empty where all are 0

    @property
    def latencies_ns(self) -> NDArray[np.int64]:
        """What each query took, int64 [queries], ns."""
        return self.completed_ns - self.issued_ns

    @property
    def duration_s(self) -> float:
        """From the start of the first batch to the end of the last, in seconds."""
        if not len(self.batch_samples):
            return 0.0
        return int(self.batch_completed_ns.max() - self.batch_started_ns.min()) / 1e9

    @property
    def padding_share(self) -> float:
        """The padding among all tokens that were calculated."""
        return padding_share(int(self.batch_tokens.sum()), int(self.batch_padded_tokens.sum()))

    def save(self, folder: Path) -> None:
        """Write the file into the run folder, whole or not at all."""
        arrays.save(self, folder / TIMELINE)

    def digest(self) -> dict[str, Any]:
        """What plots are drawn from, small enough for JSON; docs/results.md says what is what."""
        return {
            "latency": _latency_curve(np.sort(self.latencies_ns)),
            "course": self._course(),
            "batches": self._batches(),
        }

    def _course(self) -> dict[str, Any]:
        """For each span of time: samples/s, padded tokens/s of an instance, relative speed.

        The relative speed is the time that the span's batches should have taken, by the line that
        fits the whole run best, over the time that they took; 0 where no batch ended.
        """
        if not len(self.batch_samples):
            return {"span_s": 0.0, "samples_per_s": [], "tokens_per_s": [], "relative_speed": []}
        place, spans, span_s = self._spans()
        busy_s = self._busy_s
        fitting_s = _fitting(self.batch_padded_tokens.astype(np.float64), busy_s)
        done, tokens, busy, fitting = (
            np.bincount(place, weights, spans)
            for weights in (self.batch_samples, self.batch_padded_tokens, busy_s, fitting_s)
        )
        some = busy > 0
        return {
            "span_s": span_s,
            "samples_per_s": (done / span_s).round(3).tolist(),
            "tokens_per_s": np.divide(tokens, busy, np.zeros(spans), where=some).round(3).tolist(),
            "relative_speed": np.divide(fitting, busy, np.zeros(spans), where=some)
            .round(4)
            .tolist(),
        }

    def by_node(self, count: int) -> list[Share]:
        """What each of `count` nodes did."""
        batches = len(self.batch_samples)
        node = self.batch_node if len(self.batch_node) else np.zeros(batches, np.int64)
        if not batches:
            return [Share(0, 0.0, [])] * count
        place, spans, span_s = self._spans()
        samples = np.bincount(node, self.batch_samples, count)
        busy_s = np.bincount(node, self._busy_s, count)
        done = np.bincount(node * spans + place, self.batch_samples, count * spans)
        rates = (done.reshape(count, spans) / span_s).round(3)
        return [Share(int(samples[n]), float(busy_s[n]), rates[n].tolist()) for n in range(count)]

    @property
    def _busy_s(self) -> NDArray[np.float64]:
        busy_s: NDArray[np.float64] = (self.batch_completed_ns - self.batch_started_ns) / 1e9
        return busy_s

    def _spans(self) -> tuple[NDArray[np.int64], int, float]:
        """The span that each batch ended in, how many spans there are, and their seconds."""
        start, end = int(self.batch_started_ns.min()), int(self.batch_completed_ns.max())
        samples = int(self.batch_samples.sum())
        spans = max(1, min(MOST_SPANS, len(self.batch_samples), samples // SAMPLES_A_SPAN))
        span_s = max(end - start, 1) / spans / 1e9
        place = ((self.batch_completed_ns - start) / 1e9 / span_s).astype(np.int64)
        return place.clip(0, spans - 1), spans, span_s

    def _batches(self) -> list[dict[str, int]]:
        """For each number of samples that a batch had: how many had it, and their tokens."""
        found = []
        for size in np.unique(self.batch_samples):
            alike = self.batch_samples == size
            tokens, padded = self.batch_tokens[alike], self.batch_padded_tokens[alike]
            found.append(
                {
                    "samples": int(size),
                    "count": len(tokens),
                    "tokens": int(tokens.sum()),
                    "padded_tokens": int(padded.sum()),
                }
            )
        return found


_column = partial(array, "q")


@dataclass(frozen=True)
class Recording:
    """A Timeline that grows while a run goes on, with the same columns."""

    issued_ns: "array[int]" = field(default_factory=_column)
    completed_ns: "array[int]" = field(default_factory=_column)
    batch_started_ns: "array[int]" = field(default_factory=_column)
    batch_completed_ns: "array[int]" = field(default_factory=_column)
    batch_samples: "array[int]" = field(default_factory=_column)
    batch_tokens: "array[int]" = field(default_factory=_column)
    batch_padded_tokens: "array[int]" = field(default_factory=_column)
    batch_node: "array[int]" = field(default_factory=_column)

    def timeline(self) -> Timeline:
        """What was recorded until now."""
        return Timeline(**{name: np.array(column, np.int64) for name, column in vars(self).items()})


def _fitting(tokens: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The seconds of each batch by the line `a + b * tokens` that fits all best; a, b >= 0."""
    apart = tokens - tokens.mean()
    spread = float(apart @ apart)
    slope = float(apart @ seconds) / spread if spread else 0.0
    slope = min(max(slope, 0.0), float(seconds.sum() / tokens.sum()))
    fitted: NDArray[np.float64] = seconds.mean() + slope * apart
    return fitted


def _latency_curve(ordered_ns: NDArray[np.int64]) -> dict[str, list[float]]:
    """Latencies at percentiles from 0 to that of the slowest query, in per cent and ms."""
    count = len(ordered_ns)
    if not count:
        return {"percentile": [], "ms": []}
    tail = 100 - 100 * np.logspace(0, -math.log10(max(count, 2)), CURVE_POINTS)
    wanted = sorted({*tail.tolist(), *PERCENTILES})
    return {
        "percentile": [round(percentile, 6) for percentile in wanted],
        "ms": [round(float(ordered_ns[rank(count, one)]) / 1e6, 4) for one in wanted],
    }


def padding_share(tokens: int, padded_tokens: int) -> float:
    """The share of the padded tokens that is padding, from 0 to 1."""
    return 1 - tokens / padded_tokens if padded_tokens else 0.0


def rank(count: int, percentile: float) -> int:
    """The place of a percentile among so many ordered values, as LoadGen takes it."""
    return min(int(count * (percentile / 100)), count - 1)


def load(folder: Path) -> Timeline:
    """Read the timeline of a run folder; SuiteError says what is wrong with it."""
    path = folder / TIMELINE
    try:
        found = arrays.load(Timeline, path)
    except OSError as error:
        raise unreadable(path, error) from error
    except (arrays.Damaged, arrays.Lacking) as error:
        raise _no_timeline(path) from error
    queries, batches = len(found.issued_ns), len(found.batch_samples)
    lengths = {name: len(array) for name, array in vars(found).items()}
    lengths["batch_node"] = lengths["batch_node"] or batches
    if any(n != (batches if name.startswith("batch") else queries) for name, n in lengths.items()):
        raise _no_timeline(path)
    return found


def _no_timeline(path: Path) -> SuiteError:
    return SuiteError(f"{path} is not a whole timeline of a run: run the case again")
