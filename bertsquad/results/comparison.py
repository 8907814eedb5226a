"""Whether two timed runs of a case may be compared: the same work, asked for in the same way.

pytest-benchmark matches earlier figures by the test's name alone, which says nothing of size, data
or rules. What a user compares is left free: machine, versions, instances, threads, batches.
"""

from collections.abc import Mapping
from typing import Any

#: Where a result says what was measured and how: two runs that differ here are unlike.
ALIKE = (
    "mode",
    "scenario",
    "device",
    "precision",
    "provenance.model_checksum",
    "provenance.dataset_checksum",
    "dataset_samples",
    "rules",
    "sample_count",
    "buffer_size",
    "min_duration_s",
)
#: The same for Server, whose figure depends on what was asked of it.
ALIKE_IN_SERVER = ("target_latency_ms", "target_qps")

Figures = Mapping[str, Any]


def differences(new: Figures, old: Figures) -> list[str]:
    """What makes two results of one case unlike, each with its new and its earlier value.

    Both are `Result.as_dict()`; of `new` only the keys that it has are looked at. Server's rates
    may differ where a probe found both: each is what its run could keep.
    """
    version = old.get("schema_version")
    if version is None:
        return ["that is no result of this suite"]
    if version != new["schema_version"]:
        return [f"schema_version is {new['schema_version']} and was {version}"]
    found = []
    for place in ALIKE + (ALIKE_IN_SERVER if old.get("scenario") == "server" else ()):
        key, now, then = place.rpartition(".")[2], _at(new, place), _at(old, place)
        if now is _MISSING or now == then:
            continue
        if then is _MISSING:
            found.append(f"{key} ({now}) isn't in the earlier results")
        elif key != "target_qps" or not _both_probed(new, old):
            found.append(f"{key} is {now} and was {then}")
    return found


def refusal(name: str, source: object, unlike: list[str]) -> str:
    """Why a case can't be compared with the results in `source`, and what to do, in a sentence."""
    return (
        f"{name.rpartition('::')[2]} can't be compared with {source}: {'; '.join(unlike)}; run it "
        "as then, or compare with results of such runs (--benchmark-compare, --benchmark-storage)"
    )


class _Missing:
    pass


_MISSING = _Missing()


def _at(figures: Figures, place: str) -> Any:
    found: Any = figures
    for key in place.split("."):
        if not isinstance(found, Mapping) or found.get(key) is None:
            return _MISSING
        found = found[key]
    return found


def _both_probed(new: Figures, old: Figures) -> bool:
    return new.get("target_source") == old.get("target_source") == "probe"
