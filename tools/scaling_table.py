"""What `tools/scaling.py` found, as text for a terminal of 80 columns."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Row:
    """A figure, and what it should be `at_least` or `at_most`."""

    what: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def kept(self) -> bool:
        """Whether it is as it should be."""
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )


def table(found: Mapping[str, Any]) -> str:
    """All figures, those that miss what they should be marked."""
    lines = [
        f"{found['model']}, {found['precision']} on {found['device']}, Offline, windows of "
        f"{found['dataset']}",
        f"{found['machine']}; medians of {found['rounds']} rounds",
        "",
        f"{found['what']:>9} {'samples/s':>10} {'suite':>10} {'of suite':>10} {'of ideal':>10}",
    ]
    for one in found["counts"]:
        cells = (
            one["nodes"],
            _number(one["samples_per_s"]),
            _number(one["suite_samples_per_s"]),
            _share(one["of_suite"]),
            _share(one["of_ideal"]),
        )
        lines.append("{:>9} {:>10} {:>10} {:>10} {:>10}".format(*cells))
    if found["figures"]:
        lines += ["", f"{'figure':52} {'is':>12} {'should be':>13}"]
    lines += [_line(row) for row in found["figures"]]
    for one in found["projection"]:
        most = [point for point in one["points"] if point["share"] >= 0.95]
        reach = f"up to {most[-1]['nodes']} nodes" if most else "not even with one node"
        lines += ["", f"projected, {one['label']}: 0.95 of ideal {reach}"]
    return "\n".join(lines)


def _line(row: Mapping[str, Any]) -> str:
    made = Row(**row)
    value = f"{_number(made.value)} {made.unit}".strip()
    wanted = ""
    if made.at_least is not None:
        wanted = f">= {made.at_least:g}"
    elif made.at_most is not None:
        wanted = f"<= {made.at_most:g}"
    return f"{made.what:52} {value:>12} {wanted:>8} {'' if made.kept else 'NOT'}".rstrip()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def figures(parts: Mapping[str, Sequence[Any]], nodes: int) -> list[Row]:
    """The figures of the parts that were measured; the limits are for 2 quiet cores."""
    rows = []
    if parts["halved"]:
        what = f"one of {nodes} nodes at half speed, of ideal"
        rows.append(Row(what, statistics.median(parts["halved"]), at_least=0.95))
    if parts["costs"]:
        rows += _of_costs(parts["costs"])
    if parts["start"]:
        start = {key: _median(one[key] for one in parts["start"]) for key in parts["start"][0]}
        rows += [
            Row(f"local:{nodes} up", start["up_s"], "s", at_most=6),
            Row(f"local:{nodes} down", start["down_s"], "s", at_most=2),
            Row(f"local:{nodes} memory", start["memory_bytes"] / 1e9, "GB", at_most=1),
        ]
    for key in ("p50_ms", "p99_ms"):
        for who, where in (("suite", "one core"), ("cluster", "one node")):
            known = [one[who][key] for one in parts["server"] if key in one.get(who, {})]
            if known:
                what = f"Server {key[:3]}, {where}, at half of its rate"
                rows.append(Row(what, statistics.median(known), "ms"))
    for kind in parts["losses"][0] if parts["losses"] else ():
        seen = [one[kind] for one in parts["losses"]]
        limit = 15 if kind == "silent" else 5
        noticed = _median(one["noticed_s"] for one in seen)
        rows.append(Row(f"loss of a node ({kind}) noticed after", noticed, "s", at_most=limit))
        whole = [one["each_once"] and one["bit_equal"] for one in seen]
        what = "  its responses once, and bit-equal, of all rounds"
        rows.append(Row(what, sum(whole) / len(whole), at_least=1))
    return rows


def _of_costs(rounds: Sequence[Mapping[str, Any]]) -> list[Row]:
    added_ms = 1e3 * np.concatenate([one["added_latency_s"] for one in rounds])
    rows = [
        Row("added latency of a batch, one in flight, p50", np.median(added_ms), "ms", at_most=4),
        Row("  p99", float(np.percentile(added_ms, 99)), "ms", at_most=15),
    ]
    for place, calls in enumerate(rounds[0]["costs"]):
        seen = [one["costs"][place] for one in rounds]
        what = f"driver CPU of a call of {calls['calls_of']}"
        several = calls["calls_of"] == "several batches"
        cpu_ms = _median(1e3 * one["cpu_s"] / one["calls"] for one in seen)
        rate = _median(one["batches_per_s"] for one in seen)
        limit = None if several else 0.8
        rows += [
            Row(what, cpu_ms, "ms", at_most=limit),
            Row("  batches/s of 8 sleeping nodes", rate, at_least=1000),
        ]
        if several:
            each = _median(one["batches"] / one["calls"] for one in seen)
            rows.append(Row("  batches in a call", each))
    return rows


def _median(values: Iterable[float]) -> float:
    return float(statistics.median(values))
