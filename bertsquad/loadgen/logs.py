"""LoadGen's logs: what a run did.

LoadGen has no getter for results, so the detail log's `:::MLLOG` lines are the source.
"""

import hashlib
import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ijson
import numpy as np
from numpy.typing import NDArray

from bertsquad import typed
from bertsquad.errors import SuiteError, printable
from bertsquad.files import unreadable, unwritable, why_no_room
from bertsquad.scenarios import SCENARIOS, Scenario

DETAIL = "mlperf_log_detail.txt"
SUMMARY = "mlperf_log_summary.txt"
ACCURACY = "mlperf_log_accuracy.json"
#: So many bytes of an accuracy log are read at a time; of 64 KiB the reader would make 25 MB.
_PIECE = 1 << 12
#: All that LoadGen writes into a run folder.
NAMES = (DETAIL, SUMMARY, ACCURACY, "mlperf_log_trace.json")


@dataclass(frozen=True)
class Cause:
    """Why LoadGen calls a run INVALID; `found` and `needed` count queries, where LoadGen does.

    `kind` is `latency_bound`, `min_duration`, `min_queries`, `early_stopping`, the key of the
    user.conf that ended the run early (`max_duration`, `max_query_count`, `max_async_queries`), or
    `error` for anything else.
    """

    kind: str
    reason: str
    found: int | None = None
    needed: int | None = None


@dataclass(frozen=True)
class Run:
    """A run folder's detail log: the last value of every key, and LoadGen's own complaints."""

    folder: Path
    values: Mapping[str, Any]
    errors: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether LoadGen itself calls the run VALID."""
        return self.values.get("result_validity") == "VALID" and not self.errors

    @property
    def loadgen_version(self) -> str:
        """The version of LoadGen, as it says itself before its commit."""
        return str(self.values.get("loadgen_version", "")).partition(" @ ")[0]

    @property
    def invalid_reasons(self) -> list[str]:
        """Why the run is not valid, from every place where LoadGen says so."""
        return [cause.reason for cause in self.invalid_causes]

    @property
    def invalid_causes(self) -> list[Cause]:
        """Why the run is not valid, cause by cause.

        LoadGen's recommendations are taken only where it says nothing else: for a run that ended
        early they name options that don't help.
        """
        if self.valid:
            return []
        values, count = self.values, self.values.get("result_query_count")
        causes = [Cause(kind, reason) for key, kind, reason in _NOT_MET if values.get(key) is False]
        if values.get("early_stopping_met") is False:
            said = _line(str(values.get("early_stopping_result", "")).replace("*", ""))
            wanted = re.search(r"at least (\d{1,18})( more)? queries", said)
            needed = None
            if wanted is not None:
                needed = int(wanted[1]) + ((count or 0) if wanted[2] else 0)
                said = f"{count} queries were processed, {needed} or more are needed"
            causes.append(Cause("early_stopping", f"early stopping: {said}", count, needed))
        for error in self.errors:
            kinds = (kind for words, kind in _ENDINGS.items() if words in error)
            causes.append(Cause(next(kinds, "error"), error))
        recommendation = _line(values.get("result_invalid_reason", ""))
        if recommendation and not causes:
            causes.append(Cause("error", recommendation))
        return causes

    def latency_ms(self, percentile: float) -> float | None:
        """LoadGen's latency of a query (Offline, Server: a sample) at a percentile that it logs.

        In ms. MultiStream is judged by its queries' latencies; its log has those of samples too.
        """
        for what in ("percentile_per_query_latency", "percentile_latency"):
            value = self.values.get(f"result_{percentile:.2f}_{what}_ns")
            if value is not None:
                return float(value) / 1e6
        return None

    def metric(self, scenario: Scenario) -> float | None:
        """The official figure: samples/s for Offline and Server, milliseconds for the others.

        None where early stopping gave no estimate.
        """
        value = self.values.get(scenario.metric)
        if value is None:
            return None
        if scenario.has_rate:
            return float(value)
        return value / 1e6 or None


_NOT_MET = (
    ("result_perf_constraints_met", "latency_bound", "the latency bound was not kept"),
    ("result_min_duration_met", "min_duration", "the run was shorter than the minimum duration"),
    ("result_min_queries_met", "min_queries", "the run had fewer queries than the minimum"),
)
#: What LoadGen's errors say of a run that it ended early, and the kind of cause that this is.
_ENDINGS = {
    "Ran out of generated queries": "min_duration",
    "Max test duration reached": "max_duration",
    "Max query count reached": "max_query_count",
    "Too many outstanding queries": "max_async_queries",
}


#: The keys of the detail log that hold a count, and those that hold another number.
_COUNTS = frozenset(
    """result_query_count effective_min_duration_ms effective_min_query_count
    effective_samples_per_query effective_performance_sample_count
    effective_accuracy_sample_count""".split()
)
_NUMBERS = frozenset(scenario.metric for scenario in SCENARIOS.values())
_LATENCY = re.compile(r"result_[\d.]+_percentile_(per_query_)?latency_ns")


def _checked(key: str, value: Any) -> Any:
    """The value of a key of the detail log; TypeError if it should be a number and is none."""
    if key in _COUNTS:
        fits = type(value) is int and value >= 0
    elif key in _NUMBERS or _LATENCY.fullmatch(key):
        fits = type(value) in (int, float) and math.isfinite(value) and value >= 0
    else:
        return value
    if not fits:
        raise TypeError(f"{key} is {value!r:.60}")
    return value


def _line(value: object) -> str:
    """A text of the log in one line that a terminal can show."""
    return printable(" ".join(str(value).split()))


def read_run(folder: Path) -> Run:
    """Parse the detail log in `folder`; SuiteError if it is missing or was cut short."""
    path = folder / DETAIL
    values: dict[str, Any] = {}
    errors = []
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                prefix, _, body = line.partition(":::MLLOG ")
                if prefix or not body:
                    continue
                record = typed.parse(body, strict=False)
                key, value = record["key"], record["value"]
                if not isinstance(key, str):
                    raise TypeError(f"a key is {key!r:.60}")
                values[key] = _checked(key, value)
                is_error = record["metadata"]["is_error"]
                if not isinstance(is_error, bool):
                    raise TypeError(f"is_error is {is_error!r:.60}")
                if is_error:
                    errors.append(f"LoadGen: {_line(value)}")
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise SuiteError(f"{path} is not a whole LoadGen detail log: {error}") from error
    accuracy = values.get("effective_test_mode") == "AccuracyOnly"
    if ("power_end" if accuracy else "num_errors") not in values:
        raise SuiteError(f"{path} was cut short: the run didn't end")
    return Run(folder, values, tuple(errors))


def check_written(folder: Path) -> None:
    """SuiteError where LoadGen couldn't write a log whole, which it doesn't say itself.

    To be called in the process that LoadGen has just written them in, since its limits count.
    """
    try:
        read_run(folder)
        whole = [_last_byte(folder / name) for name in (SUMMARY, ACCURACY)]
        if whole[0] and whole[1] == b"]":
            return
    except (OSError, SuiteError):
        pass  # the reader says it of a log that is damaged for another reason
    for name in (DETAIL, SUMMARY, ACCURACY):
        if (error := why_no_room(folder / name)) is not None:
            raise unwritable(folder / name, error, "choose another folder with --output")


def _last_byte(path: Path) -> bytes:
    """The last byte of a file that is no blank; an accuracy log is too long to be read for it."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        return file.read().rstrip()[-1:]


def read_accuracy_log(folder: Path) -> dict[int, NDArray[np.float32]]:
    """The logits by sample, float32 [length, 2] (start, end), of an accuracy run.

    LoadGen may issue a sample twice (MultiStream fills its last query); the last response counts,
    as in MLPerf's script.
    """
    return dict(read_responses(folder))


def read_responses(folder: Path) -> list[tuple[int, NDArray[np.float32]]]:
    """Every logged response in the log's order: the sample and its float32 [length, 2] logits."""
    path = folder / ACCURACY
    try:
        with path.open("rb") as file:
            if file.read(64).lstrip()[:1] != b"[":
                raise ValueError("it holds no list")
            file.seek(0)
            # Piece by piece: as text the logits have twice their size, as JSON that again.
            entries = typed.PIECEMEAL.items(file, "item", buf_size=_PIECE)
            return [_response(entry) for entry in entries]
    except OSError as error:
        raise unreadable(path, error) from error
    except (ijson.JSONError, ValueError, KeyError, TypeError) as error:
        raise SuiteError(f"{path} is not a whole LoadGen accuracy log: {error!s:.200}") from error


def _response(entry: Any) -> tuple[int, NDArray[np.float32]]:
    logits = np.frombuffer(bytes.fromhex(entry["data"]), np.float32).reshape(-1, 2)
    return _sample(entry["qsl_idx"]), logits


def _sample(index: object) -> int:
    if type(index) is not int or index < 0:
        raise TypeError(f"qsl_idx is {reprlib.repr(index)}")
    return index


def checksums(folder: Path) -> dict[str, str]:
    """The sha256 of each of LoadGen's logs in a run folder, by file name."""
    found = {}
    for name in (SUMMARY, DETAIL, ACCURACY):
        with (folder / name).open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
