"""What is kept of a run's course, and how it is summed up."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsquad.errors import SuiteError
from bertsquad.loadgen.timeline import PERCENTILES, TIMELINE, Timeline, load, rank

MS = 1_000_000


def timeline(latencies_ms: list[float], batches: list[tuple[int, int, int, int, int]]) -> Timeline:
    """Queries one after the other, and batches of (start ms, end ms, samples, tokens, padded)."""
    latencies = (np.array(latencies_ms) * MS).astype(np.int64)
    columns = np.array(batches, np.int64).reshape(-1, 5).T
    ends = latencies.cumsum()
    return Timeline(ends - latencies, ends, columns[0] * MS, columns[1] * MS, *columns[2:])


#: 40 batches of 4 samples in a second, the last ten half as fast as the others.
COURSE = timeline(
    [float(n) for n in range(1000, 0, -1)],
    [(20 * n, 20 * (n + 1), 4, 300, 400) for n in range(30)]
    + [(600 + 40 * n, 640 + 40 * n, 4, 300, 400) for n in range(10)],
)


def test_a_timeline_is_read_back(tmp_path: Path) -> None:
    COURSE.save(tmp_path)
    found = load(tmp_path)
    assert found.latencies_ns.tolist() == COURSE.latencies_ns.tolist()
    assert found.digest() == COURSE.digest()


def test_a_timeline_of_before_there_were_nodes_is_of_one_machine(tmp_path: Path) -> None:
    COURSE.save(tmp_path)
    with np.load(tmp_path / TIMELINE) as saved:
        older = {name: saved[name] for name in saved if name != "batch_node"}
    np.savez(tmp_path / TIMELINE, **older)
    (only,) = load(tmp_path).by_node(1)
    assert only.samples == 160
    assert only.busy_s == pytest.approx(1.0)


def test_a_timeline_that_names_the_nodes_of_some_batches_only_is_refused(tmp_path: Path) -> None:
    replace(COURSE, batch_node=np.zeros(3, np.int64)).save(tmp_path)
    with pytest.raises(SuiteError, match="not a whole timeline"):
        load(tmp_path)


def test_what_each_node_did_is_told_span_by_span_of_the_course() -> None:
    nodes = np.arange(40) % 4  # of which the last answers nothing more after the middle
    nodes[20:] %= 3  # the first has its part
    run = replace(COURSE, batch_node=nodes)
    shares = run.by_node(5)
    assert [share.samples for share in shares] == [60, 40, 40, 20, 0]
    assert sum(share.busy_s for share in shares) == pytest.approx(1.0)
    course = run.digest()["course"]
    together = np.sum([share.samples_per_s for share in shares], axis=0)
    assert together == pytest.approx(course["samples_per_s"], rel=1e-3)
    assert shares[3].samples_per_s[-1] == 0 == sum(shares[4].samples_per_s)


def test_the_curve_has_loadgens_percentiles_by_loadgens_rank_and_ends_with_the_slowest() -> None:
    curve = COURSE.digest()["latency"]
    points = dict(zip(curve["percentile"], curve["ms"], strict=True))
    # LoadGen takes the value at the place `count x share` of the ordered ones, counted from 0.
    assert [points[p] for p in (50.0, 90.0, 99.0, 99.9)] == [501, 901, 991, 1000]
    assert curve["ms"][0] == 1
    assert curve["ms"] == sorted(curve["ms"])
    assert curve["percentile"] == sorted(curve["percentile"])


def test_the_course_tells_rate_and_speed_span_by_span() -> None:
    course = COURSE.digest()["course"]
    rates, speeds = course["samples_per_s"], course["tokens_per_s"]
    assert course["span_s"] * len(rates) == pytest.approx(1.0)
    assert sum(rates) * course["span_s"] == pytest.approx(160)
    assert speeds[0] == pytest.approx(400 / 0.020)
    assert speeds[-1] == pytest.approx(400 / 0.040)


def test_the_relative_speed_tells_a_slower_span_from_one_of_other_batches() -> None:
    slowed = COURSE.digest()["course"]["relative_speed"]
    assert slowed[0] / slowed[-1] == pytest.approx(2, rel=1e-3)
    # A batch costs 5 ms and 1 ms for 100 tokens, so that small ones have fewer tokens a second.
    costs = [(6, 100), (9, 400)] * 3 + [(6, 100)] * 12 + [(9, 400)] * 12
    ends = np.cumsum([cost for cost, _ in costs]).tolist()
    mixed = timeline(
        [1.0],
        [
            (end - cost, end, 8, tokens, tokens)
            for end, (cost, tokens) in zip(ends, costs, strict=True)
        ],
    )
    course = mixed.digest()["course"]
    tokens, speeds = (
        [one for one in course[key] if one] for key in ("tokens_per_s", "relative_speed")
    )
    assert max(tokens) > 2 * min(tokens)
    assert speeds == pytest.approx([1.0] * len(speeds), rel=1e-3)


def test_a_slowdown_is_not_taken_for_a_cost_that_falls_with_the_tokens() -> None:
    batches = [(10 * n, 10 * n + 10, 4, 400, 400) for n in range(20)]
    batches += [(200 + 20 * n, 220 + 20 * n, 4, 300, 300) for n in range(20)]
    speeds = timeline([1.0], batches).digest()["course"]["relative_speed"]
    assert speeds[0] / speeds[-1] == pytest.approx(2, rel=1e-3)


def test_batches_are_counted_by_their_size_with_what_they_padded() -> None:
    found = timeline([1.0] * 3, [(0, 1, 2, 100, 200), (1, 2, 1, 50, 50), (2, 3, 2, 150, 180)])
    assert found.digest()["batches"] == [
        {"samples": 1, "count": 1, "tokens": 50, "padded_tokens": 50},
        {"samples": 2, "count": 2, "tokens": 250, "padded_tokens": 380},
    ]
    assert found.padding_share == pytest.approx(1 - 300 / 430)


def test_a_run_that_was_broken_off_before_its_first_answer_has_nothing_to_tell() -> None:
    empty = timeline([], [])
    digest = empty.digest()
    assert digest["latency"] == {"percentile": [], "ms": []}
    assert digest["course"]["samples_per_s"] == digest["batches"] == []
    assert [share.samples for share in empty.by_node(2)] == [0, 0]
    assert empty.padding_share == 0


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=300))
def test_any_run_gives_a_short_whole_digest(latencies_ms: list[float]) -> None:
    batches = [(10 * n, 10 * n + 9, 1 + n % 5, 10, 12) for n in range(len(latencies_ms))]
    digest = timeline(latencies_ms, batches).digest()
    assert len(json.dumps(digest, allow_nan=False)) < 8000
    assert set(PERCENTILES) <= set(digest["latency"]["percentile"])
    course = digest["course"]
    total = sum(course["samples_per_s"]) * course["span_s"]
    assert total == pytest.approx(sum(batch[2] for batch in batches), rel=1e-3)


@given(st.integers(1, 100_000), st.floats(0, 100))
def test_a_percentiles_place_is_among_the_values(count: int, percentile: float) -> None:
    assert 0 <= rank(count, percentile) < count


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive"])
def test_a_timeline_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / TIMELINE).write_bytes(content)
    with pytest.raises(SuiteError, match=r"timeline\.npz is not a whole timeline"):
        load(tmp_path)


def test_a_missing_timeline_is_named(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"timeline\.npz can't be read"):
        load(tmp_path)
