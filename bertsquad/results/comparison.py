"""Whether two timed runs of a case may be compared: the same work, asked for in the same way.

pytest-benchmark matches earlier figures by the test's name alone, which says nothing of size, data
or rules. What a user compares is left free: machine, versions, instances, threads, batches.
"""

from collections.abc import Mapping
from typing import Any

from bertsquad.loadgen import work

#: Where a result says what was measured and how: two runs that differ here are unlike.
ALIKE = (
    *("mode", "scenario", "device", "precision", "rules"),
    *("provenance.model_checksum", "provenance.dataset_checksum", "dataset_samples"),
    *("sample_count", "buffer_size", "min_duration_s"),
)
#: The same, where a result that has nothing there is of MLPerf's reading, as all once were.
ALIKE_UNTOLD = (
    *("provenance.tokeniser.checksum", "provenance.tokeniser.max_length"),
    "provenance.tokeniser.doc_stride",
)
#: The same for Server, whose figure depends on what was asked of it.
ALIKE_IN_SERVER = ("target_latency_ms", "target_qps")
#: The same where answers were scored.
ALIKE_IN_ACCURACY = ("null_threshold",)

Figures = Mapping[str, Any]


def differences(new: Figures, old: Figures) -> list[str]:
    """What makes two results of one case unlike, each with its new and its earlier value.

    Both are the fields of a Result by name; what `new` lacks, or has as None, is passed over.
    Server's rates may differ where both were probed: each is what its run could keep.
    """
    version = old.get("schema_version")
    if version is None:
        return ["that is no result of this suite"]
    if version != new["schema_version"]:
        return [f"schema_version is {new['schema_version']} and was {str(version)[:200]}"]
    both_probed = new.get("target_source") == old.get("target_source") == "probe"
    found = []
    places = ALIKE + (ALIKE_IN_SERVER if old.get("scenario") == "server" else ())
    places += ALIKE_IN_ACCURACY if old.get("mode") == "accuracy" else ()
    for place in places:
        key, now, then = place.rpartition(".")[2], _at(new, place), _at(old, place)
        if now is None or now == then:
            continue
        if then is None:
            found.append(f"{key} ({now}) isn't in the earlier results")
        elif key != "target_qps" or not both_probed:
            found.append(f"{key} is {now} and was {str(then)[:200]}")
    now, then = new.get("questions_left_out"), old.get("questions_left_out") or 0
    if now is not None and now != then:
        found.append(f"questions_left_out is {now} and was {str(then)[:200]}")
    now, then = new.get("number_of_nodes"), old.get("number_of_nodes", 1)  # as all once were
    if now is not None and now != then:
        found.append(f"number_of_nodes is {now} and was {str(then)[:200]}")
    if "tokeniser" in new.get("provenance", {}):
        for place in ALIKE_UNTOLD:
            if (now := _at(new, place)) != (then := _at(old, place)):
                found.append(f"{place.partition('.')[2]} is {now} and was {str(then)[:200]}")
    return found + _unlike_settings(new, old)


def _unlike_settings(new: Figures, old: Figures) -> list[str]:
    """What LoadGen's settings make unlike; one that isn't there is as without a user.conf."""
    now, then = _settings(new), _settings(old)
    return [
        f"{key} is {now[key]} and was {str(then[key])[:200]}"
        for key in now
        if key in then and now[key] != then[key]
    ]


def _settings(figures: Figures) -> dict[str, Any]:
    told = figures.get("settings")
    known = told if isinstance(told, Mapping) else {}
    return {**work.usual(str(figures.get("scenario")), str(figures.get("rules"))), **known}


def refusal(name: str, source: object, unlike: list[str]) -> str:
    """Why a case can't be compared with the results in `source`, and what to do, in a sentence."""
    return (
        f"{name.rpartition('::')[2]} can't be compared with {source}: {'; '.join(unlike)}; run it "
        "as then, or compare with results of such runs (--benchmark-compare, --benchmark-storage)"
    )


def _at(figures: Figures, place: str) -> Any:
    """What stands at a place such as `provenance.model_checksum`; None where nothing does."""
    found: Any = figures
    for key in place.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found
