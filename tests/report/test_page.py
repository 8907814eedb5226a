"""The page of finished runs, as a reader finds it: on disk, and in a browser where there is one."""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import html5lib
import pictures
import pytest
from counted import calls
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import (
    LOSS,
    accuracy,
    benchmark_json,
    compliance,
    nights,
    node,
    on_nodes,
    performance,
    provenance,
    run_folder,
)
from pytest_sessions import CHEAP, JSON, PytestSession, run_child, run_pytest
from tiny import model

from bertsquad.__main__ import main
from bertsquad.cluster.facts import Loss
from bertsquad.errors import SuiteError
from bertsquad.loadgen import logs
from bertsquad.loadgen.logs import Cause
from bertsquad.loadgen.timeline import TIMELINE
from bertsquad.machine.noise import Disturbance
from bertsquad.report.page import DRAWN_CASES, render, write
from bertsquad.results import archive
from bertsquad.results.archive import Archive
from bertsquad.results.newest import lines
from bertsquad.results.reference import Reference
from bertsquad.results.result import FAILED, NO_TARGET, RESULT, SKIPPED, Result
from bertsquad.scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]


NOW = datetime(2026, 11, 30, tzinfo=UTC)
HTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"


def parsed(page: str) -> Any:
    """The page's tree, which must be valid HTML."""
    return html5lib.HTMLParser(strict=True).parse(page)


def text_of(element: Any) -> str:
    return " ".join("".join(element.itertext()).split())


def by_class(root: Any, name: str) -> list[Any]:
    return [one for one in root.iter() if name in one.get("class", "").split()]


def article(page: Any, name: str) -> Any:
    (found,) = [
        one for one in page.iter(f"{HTML}article") if text_of(one.find(f"{HTML}h3")) == name
    ]
    return found


def figures(element: Any) -> dict[str, float]:
    """The headline figures of a case, to the last digit."""
    (shown,) = by_class(element, "figures")
    return {
        text_of(one.find(f"{HTML}dt")): float(next(one.iter(f"{HTML}data")).get("value"))
        for one in shown.iter(f"{HTML}div")
    }


def plots(element: Any) -> dict[str, Any]:
    """The figures of a case with plots, by their titles."""
    return {text_of(one.find(f"{HTML}figcaption")): one for one in element.iter(f"{HTML}figure")}


def rows(element: Any) -> list[list[str]]:
    """The first table in an element, head first."""
    table = next(element.iter(f"{HTML}table"))
    return [[text_of(cell) for cell in row] for row in table.iter(f"{HTML}tr")]


def page_of(*results: Result, **more: Any) -> Any:
    return parsed(render(Archive(list(results), **more)))


def command(folder: Path, *arguments: str) -> PytestSession:
    return run_child(folder, ["-m", "bertsquad", "report", *arguments])


# A real pytest session, and the page of it.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def finished(folder: Path) -> Path:
    """The folder of a pytest session that ran every mode of every scenario on a tiny model."""
    file = str(model(folder / "tiny.onnx"))
    pytest_session = run_pytest(folder / "run", *CHEAP.split(), *JSON, "--model", file)
    assert pytest_session.code == 0, pytest_session.out
    return pytest_session.folder


@pytest.fixture(scope="module")
def made(finished: Path) -> PytestSession:
    return command(finished, "results", "benchmarks.json", "-o", "page.html")


@pytest.fixture(scope="module")
def page(made: PytestSession) -> Any:
    assert made.code == 0, made.err
    return parsed((made.folder / "page.html").read_text("utf-8"))


def test_the_command_shows_the_table_and_says_what_it_made(made: PytestSession) -> None:
    lines = made.out.splitlines()
    top = next(n for n, line in enumerate(lines) if line.startswith("case "))
    cases = [f"tiny-pocket-{name}-cpu-fp32" for name in SCENARIOS]
    assert [line.split()[0] for line in lines[top + 1 : -2]] == cases
    assert re.fullmatch(r"made page\.html \(\d+ kB\)", lines[-1])
    assert made.err == ""


def test_the_page_is_small_and_whole(made: PytestSession, page: Any) -> None:
    assert (made.folder / "page.html").stat().st_size < 2_000_000
    assert len(list(page.iter(f"{HTML}article"))) == len(SCENARIOS)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_headline_is_what_loadgens_log_says(scenario: str, page: Any, finished: Path) -> None:
    name = f"tiny-pocket-{scenario}-cpu-fp32"
    run = logs.read_run(finished / "results" / f"performance-{name}")
    shown = figures(article(page, name))
    metric = run.values[SCENARIOS[scenario].metric]
    if SCENARIOS[scenario].has_rate:
        assert shown["throughput"] == pytest.approx(metric, rel=1e-9)
    elif metric:
        assert shown["latency"] == pytest.approx(metric / 1e6, rel=1e-9)
    if scenario != "offline":
        for percentile in (50, 90, 99, 99.9):
            logged = run.latency_ms(percentile)
            assert logged is not None
            assert shown[f"p{percentile:g}"] == pytest.approx(logged, rel=1e-9)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_plot_has_its_numbers_in_a_table(scenario: str, page: Any, finished: Path) -> None:
    name = f"tiny-pocket-{scenario}-cpu-fp32"
    document = json.loads((finished / "results" / f"performance-{name}" / RESULT).read_bytes())
    digest = document["timeline"]
    shown = plots(article(page, name))
    assert {"Latency", "Throughput", "Batches", "F1 against its target"} <= set(shown)
    for one in shown.values():
        assert len(list(one.iter(f"{SVG}svg"))) == 1
        assert len(rows(one)) > 1
    by_percentile = {row[0]: row[1:] for row in rows(shown["Latency"])[1:]}
    for percentile, ms in zip(*digest["latency"].values(), strict=True):
        assert float(by_percentile[f"{percentile:.10g}"][1]) == pytest.approx(ms)
    assert float(by_percentile["99"][0]) == pytest.approx(document["latency_p99_ms"])
    assert ("bound" in by_percentile) == (scenario == "server")
    rates = [float(row[2]) for row in rows(shown["Throughput"])[1:]]
    assert rates == pytest.approx(digest["course"]["samples_per_s"])
    counts = [float(row[1]) for row in rows(shown["Batches"])[1:]]
    assert counts == [one["count"] for one in digest["batches"]]


def test_the_verdicts_come_first_with_a_way_to_each_case(page: Any) -> None:
    (verdicts,) = by_class(page, "verdicts")
    links = [one.get("href") for one in verdicts.iter(f"{HTML}a")]
    ids = [one.get("id") for one in page.iter(f"{HTML}article")]
    assert sorted(links) == sorted(f"#{one}" for one in ids)
    head, *body = rows(verdicts)
    assert head == ["case", "accuracy", "performance", "compliance"]
    assert len(body) == len(SCENARIOS)


def test_the_page_needs_no_network_and_no_script(page: Any) -> None:
    for one in page.iter():
        tag = str(one.tag).partition("}")[2]
        assert tag not in ("script", "iframe", "object", "embed", "img", "base")
        for key, value in one.attrib.items():
            if key.rpartition("}")[2] in ("src", "href", "srcset", "action"):
                local = ("https://", "./", "../") if tag == "a" else ()
                assert value.startswith(("#", "data:", *local))
            assert not str(key).startswith("on")
        assert "url(" not in one.get("style", "").replace("url(#", "")
    style = "".join(text_of(one) for one in page.iter(f"{HTML}style"))
    assert "url(" not in style
    assert "@import" not in style
    policy = [one.get("content") for one in page.iter(f"{HTML}meta") if one.get("http-equiv")]
    assert policy[0].startswith("default-src 'none'")


def test_every_id_is_there_once_and_every_reference_has_its_id(page: Any) -> None:
    ids = Counter(one.get("id") for one in page.iter() if one.get("id"))
    assert set(ids.values()) == {1}
    for one in page.iter():
        if one.get("href", "").startswith("#"):
            assert one.get("href")[1:] in ids
        for name in re.findall(r"url\(#([^)]+)\)", " ".join(map(str, one.attrib.values()))):
            assert name in ids


def test_the_environment_and_how_each_run_was_made_are_told(page: Any) -> None:
    whole = text_of(page)
    for part in ("Environment", "mlcommons-loadgen", "operating system", "git revision"):
        assert part in whole
    details = rows(
        next(
            one
            for one in article(page, "tiny-pocket-offline-cpu-fp32").iter(f"{HTML}details")
            if text_of(one).startswith("How the performance run was made")
        )
    )
    keys = [row[0] for row in details]
    for key in ("target_qps", "invalid_reasons", "instances", "provider_proof", "command"):
        assert key in keys


def test_what_a_run_that_was_broken_off_left_is_named(folder: Path, finished: Path) -> None:
    here = folder / "broken"
    name = "performance-tiny-pocket-server-cpu-fp32"
    other = "performance-tiny-pocket-offline-cpu-fp32"
    for one in (name, other):
        shutil.copytree(finished / "results" / one, here / "results" / one)
    (here / "results" / name / RESULT).unlink()
    pytest_session = command(here, "results")
    assert pytest_session.code == 0, pytest_session.err
    page = parsed((here / "report.html").read_text("utf-8"))
    assert "broken off" in text_of(article(page, name[12:]))
    assert "failed" in text_of(article(page, name[12:]))
    assert "throughput" in figures(article(page, other[12:]))
    assert (here / "results" / name / TIMELINE).is_file()


# Made results.


def test_a_history_has_every_comparable_run_with_its_revision() -> None:
    days = [performance(day=day, qps=30.0 + day) for day in (1, 2, 3)]
    other = performance(day=4, sample_count=20)
    scored = [accuracy("server", day, f1=83.0 + day / 10) for day in (1, 2)]
    shown = plots(article(page_of(*days, *scored), days[0].case))
    history = rows(shown["Throughput, run by run"])
    assert history[0][2:] == ["samples/s", "plain p99, ms"]
    assert [row[1:] for row in history[1:]] == [
        [f"{day:02d}abcdef0123", str(30 + day), f"{days[0].latency_p99_ms:.10g}"]
        for day in (1, 2, 3)
    ]
    labels = text_of(next(shown["Throughput, run by run"].iter(f"{SVG}svg")))
    for day in (1, 2, 3):
        assert f"{day:02d}abcde" in labels
    assert [row[2] for row in rows(shown["F1, run by run"])[1:]] == ["83.1", "83.2"]
    unlike = article(page_of(*days, other), other.case)
    assert "Throughput, run by run" not in plots(unlike)
    assert text_of(unlike).count("All performance runs") == 1


@pytest.mark.parametrize(("scenario", "name"), [("singlestream", "p90"), ("multistream", "p99")])
def test_a_stream_shows_what_mlperf_judges_and_the_plain_percentile_everywhere(
    scenario: str, name: str
) -> None:
    plain: dict[str, Any] = {f"latency_{name}_ms": 71.5}
    days = [performance(scenario, day, mlperf_metric_value=80.0 + day, **plain) for day in (1, 2)]
    case = f"other-pocket-{scenario}-cpu-fp32"
    beside = performance(scenario, case=case, mlperf_metric_value=90.0, **plain)
    short = performance(scenario, case=f"a{case}", mlperf_metric_value=None, **plain)
    page = page_of(*days, beside, short)
    (verdicts,) = by_class(page, "verdicts")
    briefs = [row[1].partition(" ")[2] for row in rows(verdicts)[1:]]
    said = f"plain {name} 71.50 ms"
    assert sorted(briefs) == sorted(
        [
            f"VALID {name} 82.00 ms ({said})",
            f"VALID {name} 90.00 ms ({said})",
            f"VALID no {name} ({said})",
        ]
    )
    shown = plots(article(page, days[0].case))
    history = rows(shown[f"{name} as MLPerf judges it, run by run"])
    assert [row[2:] for row in history] == [
        ["ms", f"plain {name}, ms"],
        *(["81", "71.5"], ["82", "71.5"]),
    ]
    assert [f"{name} as MLPerf judges it", "82", "-"] in rows(shown["Latency"])
    compared = rows(plots(page)[SCENARIOS[scenario].loadgen_name])
    assert [row[1:3] for row in compared] == [
        [f"{name}, ms", "plain, ms"],
        *(["82", "71.5"], ["90", "71.5"], ["-", "71.5"]),
    ]


def test_an_invalid_quick_run_has_the_same_word_as_in_the_terminal() -> None:
    kinds = {"short": "early_stopping", "too slow": "latency_bound", "INVALID": "error"}
    runs = [
        performance(
            case=f"{kind}-pocket-server-cpu-fp32",
            loadgen_valid=False,
            invalid_causes=[Cause(kind, "why")],
        )
        for kind in kinds.values()
    ]
    page = page_of(*runs)
    for run, word in zip(runs, kinds, strict=True):
        assert f"! {word}" in text_of(article(page, run.case)) or word == "INVALID"
        row, _ = lines(Archive([run]))[-1]
        assert row.endswith(f"  {word}")
    assert "✕ INVALID" in text_of(article(page, runs[-1].case))
    (chips,) = [one for one in by_class(page, "chips") if one.get("aria-label")]
    assert text_of(chips).split() == "✕ 1 INVALID ! 1 too slow ! 1 short".split()


def night_on(machine: str, day: int, qps: float, **changes: Any) -> Result:
    facts = provenance(day, machine=machine, machine_id=f"{machine} id")
    return performance(day=day, qps=qps, provenance=facts, **changes)


def test_a_history_is_one_machines_and_the_page_has_one_a_machine() -> None:
    """Two machines of one make, turn and turn about, as a shared folder of results has them."""
    a = [night_on("a", day, 30.0 + day) for day in (1, 3)]
    b = [night_on("b", day, 50.0 + day) for day in (2, 4, 5)]
    page = page_of(*a, *b)
    shown = {text_of(one.find(f"{HTML}p")): one for one in page.iter(f"{HTML}article")}
    assert [what.rpartition(" on ")[2] for what in shown] == ["a", "b"]
    histories = [rows(plots(one)["Throughput, run by run"])[1:] for one in shown.values()]
    assert [[row[2] for row in one] for one in histories] == [["31", "33"], ["52", "54", "55"]]
    assert [figures(one)["throughput"] for one in shown.values()] == [33.0, 55.0]
    (verdicts,) = by_class(page, "verdicts")
    assert [row[0] for row in rows(verdicts)[1:]] == [f"{a[0].case} on {name}" for name in "ab"]
    (header,) = by_class(page, "page")
    assert "a (Some CPU, 4 cores)" in text_of(header) and "b (Some CPU, 4 cores)" in text_of(header)
    assert [row[:2] for row in rows(plots(page)["Server"])[1:]] == [
        ["b: minilm-pocket-cpu-fp32", "55"],
        ["a: minilm-pocket-cpu-fp32", "33"],
    ]


def test_machines_of_one_name_are_told_apart_by_their_digits() -> None:
    one, other = night_on("a", 1, 30.0), night_on("a", 2, 31.0)
    other.provenance["machine_id"] = "0b"
    shown = list(page_of(one, other).iter(f"{HTML}article"))
    assert len(shown) == 2
    assert text_of(shown[0].find(f"{HTML}p")).endswith("on a (Some CPU, 4 cores), 0b")


def test_the_page_of_one_machine_says_nothing_of_it_case_by_case() -> None:
    page = page_of(night_on("a", 1, 30.0), night_on("a", 2, 31.0))
    (shown,) = page.iter(f"{HTML}article")
    assert " on a" not in text_of(shown.find(f"{HTML}p"))


def test_a_night_that_failed_is_that_of_its_machine(tmp_path: Path) -> None:
    a, b = night_on("a", 1, 30.0), night_on("b", 1, 50.0)
    lost = {"case": a.case, "mode": a.mode, "verdict": FAILED, "reason": "it ended"}
    later = replace(night_on("a", 2, 31.0), case="minilm-pocket-server-cpu-int8")
    benchmark_json(tmp_path / "1.json", a)
    benchmark_json(tmp_path / "2.json", b)
    benchmark_json(tmp_path / "3.json", later, failures=[lost])
    page = parsed(render(archive.read([tmp_path])))
    failed = {
        text_of(one.find(f"{HTML}p")).rpartition(" on ")[2]
        for one in page.iter(f"{HTML}article")
        if "it ended" in text_of(one)
    }
    assert failed == {"a"}


def test_cases_are_compared_where_they_can_be() -> None:
    fast = performance("offline", qps=50.0, mlperf_metric_value=50.0)
    slow = replace(fast, case="minilm-pocket-offline-cpu-int8", qps=25.0, loadgen_valid=False)
    shown = plots(page_of(fast, slow, performance("server")))
    assert "Server" not in shown
    assert [row[1:4] for row in rows(shown["Offline"])[1:]] == [
        ["50", "1", "VALID"],
        ["25", "0.5", "INVALID"],
    ]


def test_squad_2_shows_its_questions_with_and_without_an_answer_apart() -> None:
    result = accuracy(
        f1_has_answer=70.25,
        exact_match_has_answer=61.0,
        f1_no_answer=40.5,
        no_answer_count=200,
        null_threshold=-1.5,
        best_f1=71.0,
        best_null_threshold=-2.25,
    )
    shown = text_of(article(page_of(result), result.case))
    assert "F1 with an answer70.25 %" in shown
    assert "F1 without one40.5 %200 questions, null threshold -1.5" in shown
    assert "highest F171 %null threshold -2.25" in shown
    assert "with an answer" not in text_of(page_of(accuracy()))


LARGE: dict[str, Any] = {
    "model": "bert_large",
    "dataset": "squad",
    "case": "bert_large-squad-offline-cpu-fp32",
}


def test_published_figures_stand_beside_mlperfs_model_with_their_sources() -> None:
    page = page_of(replace(performance("offline"), mlperf_metric_value=4.0, **LARGE))
    (section,) = [one for one in page.iter(f"{HTML}section") if "published" in str(one.attrib)]
    table = rows(section)
    assert table[1][0] == "this run"
    assert table[1][3:] == ["4", "1"]
    intel = next(row for row in table if "Intel, v3.0" in row[0])
    assert intel[2:] == ["int8", "1,383", "12.35"]
    links = [one.get("href") for one in section.iter(f"{HTML}a")]
    assert len(links) == len(table) - 2
    for link in links:
        assert link.startswith("https://github.com/mlcommons/inference_results_v")


@pytest.mark.parametrize(("machines", "per_core"), [(2, "0.5"), (1, "1")])
def test_a_rate_of_a_cluster_stands_beside_published_ones_by_the_cores_of_all_its_machines(
    machines: int, per_core: str
) -> None:
    run = on_nodes(replace(performance("offline"), mlperf_metric_value=4.0, **LARGE))
    nodes = [replace(one, machine=str(n % machines)) for n, one in enumerate(run.nodes)]
    page = page_of(replace(run, nodes=nodes))
    (section,) = [one for one in page.iter(f"{HTML}section") if "published" in str(one.attrib)]
    assert rows(section)[1] == ["this run", "2 x Some CPU", "fp32", "4", per_core]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "minilm is not MLPerf's BERT-large"),
        ({"model": "bert_large_random", "dataset": "squad"}, "is not MLPerf's BERT-large"),
        ({"model": "bert_large"}, "pocket is not SQuAD v1.1"),
        (
            {**LARGE, "scenario": "multistream", "qps": None},
            "no figure of the scenario multistream",
        ),
    ],
)
def test_why_no_published_figure_stands_beside_a_run_is_told(
    changes: dict[str, Any], reason: str
) -> None:
    page = page_of(replace(performance("offline"), **changes))
    (section,) = [one for one in page.iter(f"{HTML}section") if "published" in str(one.attrib)]
    assert reason in text_of(section)
    assert not list(section.iter(f"{HTML}table"))


def read_page(folder: Path, *results: Result) -> Any:
    """The page of results as their files have them."""
    for n, one in enumerate(results):
        run_folder(folder / str(n), one)
    return parsed(render(archive.read([folder])))


def test_a_run_on_a_cluster_shows_a_row_and_the_throughput_of_each_node(tmp_path: Path) -> None:
    run = on_nodes(performance("offline"), nodes_lost=[LOSS], verdict=FAILED)
    first = replace(run.nodes[0], gpus=["H200"] * 8, share=0.75, samples=371)
    first = replace(first, peak_memory_bytes=3 * 2**29)
    run = replace(run, nodes=[first, *run.nodes[1:]])
    page = read_page(tmp_path, run, on_nodes(accuracy()))
    shown = article(page, run.case)
    tables = {
        text_of(one.find(f"{HTML}summary")): one
        for one in shown.iter(f"{HTML}details")
        if text_of(one.find(f"{HTML}summary")).startswith("Nodes of")
    }
    assert tables.keys() == {"Nodes of the performance run", "Nodes of the accuracy run"}
    performed = tables["Nodes of the performance run"]
    assert "open" in performed.attrib and "open" not in tables["Nodes of the accuracy run"].attrib
    head, one, two = rows(performed)
    assert head == [
        *("node", "CPU", "cores", "GPUs", "memory", "peak memory", "instances x threads"),
        *("samples", "share, %", "busy, %", "lost"),
    ]
    assert one == [
        *("10.0.0.1", "Some CPU", "4", "8 x H200", "16.0 GiB", "1.5 GiB", "2 x 2"),
        *("371", "75", "98", "-"),
    ]
    assert two[5] == "-"
    assert two[-2:] == ["98", f"at 7.2 s: {LOSS.cause}"]
    (plot,) = (one for title, one in plots(shown).items() if title == "Throughput of the nodes")
    spans = len(run.nodes[0].samples_per_s)
    numbers = rows(plot)
    assert numbers[0] == ["from, s", "to, s", "10.0.0.1", "10.0.0.2"]
    assert len(numbers) == 1 + spans
    assert float(numbers[1][2]) == pytest.approx(run.nodes[0].samples_per_s[0])
    assert "10.0.0.2 was lost at 7.25 s" in plot.find(f".//{SVG}svg").attrib["aria-label"]
    assert "2 x Some CPU" in text_of(page)


@pytest.mark.parametrize("count", [12, 13, 40])
def test_of_many_nodes_the_plot_has_a_band_and_the_table_all(tmp_path: Path, count: int) -> None:
    run = on_nodes(performance("offline"), count)
    shown = article(read_page(tmp_path, run), run.case)
    numbers = rows(plots(shown)["Throughput of the nodes"])
    banded = count > 12
    assert (numbers[0][2:] == ["slowest", "median", "fastest"]) == banded
    (table,) = (
        one
        for one in shown.iter(f"{HTML}details")
        if text_of(one.find(f"{HTML}summary")) == "Nodes of the performance run"
    )
    assert len(rows(table)) == 1 + count


def test_a_run_without_a_cluster_shows_no_nodes() -> None:
    assert "Nodes of the" not in text_of(page_of(performance("offline"), accuracy()))
    assert "Throughput of the nodes" not in text_of(page_of(performance("offline")))


def test_nodes_whose_course_is_not_known_have_their_rows(tmp_path: Path) -> None:
    run = performance("offline", nodes=[node(1), node(2)], number_of_nodes=2)
    for one in (run, replace(run, timeline={})):
        shown = article(page_of(one), run.case)
        assert "10.0.0.2" in text_of(shown)
        assert "Throughput of the nodes" not in plots(shown)


def test_a_failure_leads_and_says_why() -> None:
    bad = performance("server", verdict=FAILED, reason="LoadGen calls the run INVALID")
    lost = archive.Lost(
        "x-y-offline-cuda-fp16", "accuracy", FAILED, "cuda: no GPU", "out.json", NOW
    )
    page = page_of(accuracy("offline"), bad, missing=[lost])
    (verdicts,) = by_class(page, "verdicts")
    assert [row[0] for row in rows(verdicts)[1:]] == [bad.case, lost.case, accuracy().case]
    whole = text_of(page)
    assert "✕ 2 failed" in whole
    assert f"✕ failed LoadGen calls the run INVALID {bad.case} (performance)" in whole
    assert "accuracy: cuda: no GPU (out.json)" in text_of(article(page, lost.case))


def test_a_case_that_failed_without_a_result_is_failed_whatever_it_reached_before() -> None:
    run = performance("server")
    lost = archive.Lost(run.case, "performance", FAILED, "it took too long", "out.json", NOW)
    read = Archive([run], [lost])
    page = parsed(render(read))
    (verdicts,) = by_class(page, "verdicts")
    assert rows(verdicts)[1:] == [[run.case, "✕ failed no result"]]
    assert "its figures are of the run before" in text_of(article(page, run.case))
    why, row = [one for one, _ in lines(read) if one.startswith(run.case)]
    assert row.endswith("failed")
    assert why == f"{run.case}, performance: it took too long"


def test_what_to_do_is_told_and_what_was_not_run_makes_no_case() -> None:
    busy = Disturbance("the CPU was busy", "run it when it is quiet")
    run = performance("offline", disturbances=[busy])
    skipped = [
        archive.Lost(f"x-y-{name}-cuda-fp16", "accuracy", SKIPPED, "cuda: no GPU", "out.json", NOW)
        for name in SCENARIOS
    ]
    page = page_of(run, missing=skipped)
    assert len(list(page.iter(f"{HTML}article"))) == 1
    assert "4 cases not run: cuda: no GPU" in text_of(page)
    assert "run it when it is quiet" in [text_of(one) for one in by_class(page, "cure")]
    said = text_of(article(page, run.case))
    assert "performance: the CPU was busy → run it when it is quiet" in said


def test_a_subset_stands_beside_what_others_answered_to_its_questions() -> None:
    beside = Reference("bundled", "minilm", 17, 91.2, 40.4, 43.5, 20.6, 43.1, 8, [])
    said = text_of(page_of(accuracy(sample_count=20, reference=beside)))
    for part in ("minilm's answers", "91.2", "40.4", "43.5"):
        assert part in said


def test_what_was_left_out_is_told() -> None:
    said = "left out: old/result.json is empty"
    read = Archive([accuracy()], left_out=["old/result.json is empty: run the case again"])
    assert said in text_of(parsed(render(read)))
    assert any(line.startswith(said) for line, _ in lines(read))


@pytest.mark.parametrize(
    "results",
    [
        [accuracy(f1=None, exact_match=None, f1_interval=None, verdict=NO_TARGET, f1_target=None)],
        [accuracy(f1_interval=None, f1_upper_bound=99.0, sample_count=20)],
        [performance(timeline={}, padding_share=None, latency_p99_9_ms=None)],
        [performance("singlestream", mlperf_metric_value=None)],
        [compliance(timeline={}, compliance_speed_ratio=None)],
        [performance(provenance=provenance(git_revision=None, cpu=None, versions=None, gpus=3))],
        [performance("offline", qps=0.0, mlperf_metric_value=0.0)],
        [performance("offline", qps=None, mlperf_metric_value=None)],
    ],
    ids="F1,subset,timeline,estimate,ratio,provenance,zero,rate".split(","),
)
def test_a_result_of_which_little_is_known_has_its_page(results: list[Result]) -> None:
    page = page_of(*results)
    assert text_of(article(page, results[0].case)).startswith(results[0].case)


#: A formula that can't be set comes first, where a plot's short labels have it too.
NASTY = '$^$<script>alert(1)</script><img src=x onerror=alert(2)> "quoted" & $\\frac{1}{'


def test_nothing_that_a_file_says_becomes_markup(tmp_path: Path) -> None:
    run = on_nodes(
        performance(),
        nodes_lost=[Loss(NASTY, 7.0, NASTY)],
        case=NASTY,
        model=NASTY,
        device=NASTY,
        precision=NASTY,
        reason=NASTY,
        verdict=FAILED,
        target_source=NASTY,
        warnings=[NASTY],
        invalid_reasons=[NASTY],
        provenance=provenance() | {"git_revision": NASTY, NASTY: NASTY},
    )
    odd = replace(run.nodes[0], node=NASTY, cpu=NASTY, gpus=[NASTY])
    run = replace(run, nodes=[odd, *run.nodes[1:]])
    scored = replace(run, mode="accuracy", question_count=4, f1=1.0, exact_match=1.0)
    file = benchmark_json(
        tmp_path / "out.json",
        run,
        replace(run, provenance=run.provenance | {"started_at": "2026-11-02T00:00:00Z"}),
        scored,
        failures=[{"case": NASTY + "2", "mode": NASTY, "reason": NASTY}],
    )
    read = archive.read([file])
    read.left_out.append(NASTY)
    page = parsed(render(read))
    assert not [one for one in page.iter() if str(one.tag).endswith(("}script", "}img"))]
    assert text_of(article(page, NASTY)).count("<script>alert(1)</script>") > 5


def test_text_that_no_page_can_hold_is_cleaned(tmp_path: Path) -> None:
    run = performance(case="a\ud800b\x00c\x1b[31md\ufffe", reason="line\none")
    page = tmp_path / "page.html"
    write(archive.read([run_folder(tmp_path / "x", replace(run, case="x"))]), page)
    (tmp_path / "odd.json").write_text(json.dumps(run.as_dict()), "utf-8")
    write(archive.read([tmp_path / "odd.json"]), page)
    assert "a?bc[31md" in page.read_text("utf-8")


MADE = [accuracy(), performance(), compliance(), on_nodes(performance(), nodes_lost=[LOSS])]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_the_archive_lets_through_has_a_page(folder: Path, data: st.DataObject) -> None:
    some: Any = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9)
    value = some | st.lists(some, max_size=2)
    value |= st.dictionaries(st.text(max_size=3), some, max_size=2)
    document: Any = data.draw(st.sampled_from(MADE)).as_dict()
    parts = [document, document["provenance"], document["timeline"]]
    for _ in range(3):
        part = data.draw(st.sampled_from(parts))
        part[data.draw(st.sampled_from(sorted(part)))] = data.draw(value)
    file = folder / "fuzzed.json"
    file.write_text(json.dumps(document), "utf-8")
    try:
        read = archive.read([file])
    except SuiteError:
        return
    parsed(render(read))
    lines(read)


@pytest.mark.slow
def test_many_nights_of_many_cases_stay_one_small_page(tmp_path: Path) -> None:
    for day in range(1, 29):
        runs = [
            make(name, day) for name in ("offline", "server") for make in (accuracy, performance)
        ]
        benchmark_json(tmp_path / f"{day}.json", *runs)
    assert write(archive.read([tmp_path]), tmp_path / "page.html") < 2_000_000


# Many nights and many cases.


def linear(work: Callable[[int], Any], first: int) -> None:
    """Assert that what `work` does grows no faster than the size that it is given."""
    one, two, four = (calls(partial(work, size)) for size in (first, 2 * first, 4 * first))
    assert four - two < 2.5 * (two - one)


SHOWN = pytest.mark.parametrize("shown", [render, lines], ids=["page", "terminal"])


@SHOWN
def test_work_grows_as_the_nights_of_a_history_do(
    shown: Callable[[Archive], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertsquad.report.page.DRAWN_CASES", 0)
    linear(lambda count: shown(Archive(list(nights(1, count)))), 40)


@SHOWN
def test_work_grows_as_the_cases_do(
    shown: Callable[[Archive], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertsquad.report.page.DRAWN_CASES", 0)
    monkeypatch.setattr("bertsquad.report.exhibits.MOST_ROWS", 2)
    linear(lambda count: shown(Archive(list(nights(count, 1)))), 10)


def cells(table: list[list[str]]) -> list[list[str]]:
    return [[" ".join(cell.split()) for cell in row] for row in table]


@pytest.mark.slow
def test_cases_beyond_the_first_have_all_numbers_of_their_plots_as_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results = [
        *map(on_nodes, nights(4, 3)),
        *(replace(accuracy(), case=one.case) for one in nights(4, 1)),
    ]
    drawn = page_of(*results)
    monkeypatch.setattr("bertsquad.report.page.DRAWN_CASES", 1)
    page = page_of(*results)
    names = [text_of(one) for one in page.iter(f"{HTML}h3")]
    assert len(names) == 4
    assert plots(article(page, names[0])).keys() == plots(article(drawn, names[0])).keys()
    for name in names[1:]:
        before, now = article(drawn, name), article(page, name)
        assert not plots(now)
        assert not list(now.iter(f"{SVG}svg"))
        assert figures(now) == figures(before)
        texts = {
            text_of(one.find(f"{HTML}summary")): "".join(one.find(f"{HTML}pre").itertext())
            for one in now.iter(f"{HTML}details")
        }
        tables = {title: rows(one) for title, one in plots(before).items()}
        for one in before.iter(f"{HTML}details"):
            if (title := text_of(one.find(f"{HTML}summary"))) != "Numbers":
                tables[title] = rows(one)
        assert len(tables) >= 8
        assert texts.keys() == tables.keys()
        for title, table in tables.items():
            lines = [line.split("\t") for line in texts[title].split("\n")]
            assert cells(lines) == cells(table)


@pytest.mark.slow
def test_a_case_without_plots_is_light_for_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertsquad.report.page.DRAWN_CASES", 1)
    results = list(nights(4, 5))
    page = page_of(*results)
    elements = [len(list(one.iter())) for one in page.iter(f"{HTML}article")]
    assert max(elements[1:]) < 100 < elements[0] / 10
    few, many = (len(render(Archive(list(nights(count, 1))))) for count in (10, 20))
    assert many - few < 10 * 10_000


@pytest.mark.slow
def test_which_cases_have_plots_is_told_with_the_way_to_those_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bertsquad.report.page.DRAWN_CASES", 2)
    source = benchmark_json(tmp_path / "out.json", *nights(5, 1))
    path = tmp_path / "page.html"
    assert main(["report", str(source), "-o", str(path)]) == 0
    page = parsed(path.read_text("utf-8"))
    said = text_of(page)
    assert "The first 2 cases have plots; the 3 others have all their numbers" in said
    assert "python -m bertsquad report … --case TEXT" in said
    last = text_of(list(page.iter(f"{HTML}h3"))[-1])
    assert not plots(article(page, last))

    capsys.readouterr()
    assert main(["report", str(source), "--case", last[4:], "-o", str(path)]) == 0
    out, _ = capsys.readouterr()
    assert f"left out: 4 cases without '{last[4:]}' in the name" in out
    page = parsed(path.read_text("utf-8"))
    assert [text_of(one) for one in page.iter(f"{HTML}h3")] == [last]
    assert len(plots(article(page, last))) == 3
    assert "4 cases without" in text_of(page)
    assert "cases have plots" not in text_of(page)


@pytest.mark.slow
def test_of_many_rows_as_many_are_drawn_as_can_be_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bertsquad.report.exhibits.MOST_POINTS", 80)
    monkeypatch.setattr("bertsquad.report.exhibits.MOST_ROWS", 3)
    scored = [replace(accuracy(), case=f"case{n}", f1=80.0 + n) for n in range(4)]
    shown = plots(page_of(*nights(1, 100), *scored))
    history, scores = shown["Throughput, run by run"], shown["F1"]
    assert len(rows(history)) == 1 + 100
    assert len(rows(scores)) == 1 + 4
    assert "The newest 80 of 100 runs are drawn; the numbers are of all." in text_of(history)
    assert "The first 3 of 4 cases are drawn; the numbers are of all." in text_of(scores)
    svg = next(scores.iter(f"{SVG}svg"))
    assert "case2 F1" in svg.get("aria-label")
    assert "case3 F1" not in svg.get("aria-label")
    svg = next(history.iter(f"{SVG}svg"))
    assert "80 runs" in svg.get("aria-label")
    assert len(list(svg.iter())) < 100


@pytest.mark.slow
def test_a_thousand_cases_and_two_hundred_nights_are_pages_that_open_at_once() -> None:
    thousand = render(Archive(list(nights(1000, 1))))
    assert len(thousand) < 12_000_000
    assert thousand.count("<svg") <= 6 * DRAWN_CASES
    assert len(render(Archive(list(nights(12, 200))))) < 3_000_000


# Where the page is written, and what goes wrong.


def test_a_page_is_written_over_an_older_one_and_over_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(run_folder(tmp_path, accuracy()))
    page = tmp_path / "deep" / "page.html"
    assert main(["report", source, "-o", str(page)]) == 0
    assert main(["report", source, "-o", str(page)]) == 0
    other = tmp_path / "thesis.html"
    other.write_text("<html>my thesis</html>", "utf-8")
    link = tmp_path / "link.html"
    link.symlink_to(page)
    capsys.readouterr()
    for target, said in (
        (other, "is there already and is no report"),
        (tmp_path, "is not a plain file"),
        (link, "is not a plain file"),
        (Path(source) / RESULT, "is there already and is no report"),
    ):
        assert main(["report", source, "-o", str(target)]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        assert f"{target} {said}" in err
    assert other.read_text("utf-8") == "<html>my thesis</html>"


def test_bad_input_ends_in_a_sentence_and_makes_no_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = run_folder(tmp_path / "good", accuracy())
    bad = tmp_path / "bad.json"
    bad.write_text('{"benchmarks": [', "utf-8")
    page = tmp_path / "page.html"
    assert main(["report", str(good), str(bad), "-o", str(page)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"python -m bertsquad report: {bad} is cut short or damaged: run the case again"
    ]
    assert not page.exists()
    assert main(["report", str(good), "-o", str(page)]) == 0
    before = page.read_bytes()
    assert main(["report", str(good), str(bad), "-o", str(page)]) == 1
    assert page.read_bytes() == before


@pytest.mark.parametrize("library", ["matplotlib", "jinja2"])
def test_without_the_extra_a_sentence_says_what_to_install(library: str, tmp_path: Path) -> None:
    run_folder(tmp_path, accuracy())
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from bertsquad.__main__ import main\n"
        "sys.exit(main(['report', '.']))"
    )
    done = run_child(tmp_path, ["-c", code])
    assert done.code == 1
    assert done.out == ""
    assert len(done.err.splitlines()) == 1
    assert f"{library} is not installed" in done.err
    assert "pip install -e '.[report]'" in done.err


def test_a_page_that_cannot_be_written_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(run_folder(tmp_path, accuracy()))
    (tmp_path / "file").write_text("", "utf-8")
    page = tmp_path / "file" / "page.html"
    assert main(["report", source, "-o", str(page)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert f"{page} can't be written (" in err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs limits of a process")
def test_a_full_disk_leaves_the_older_page_and_nothing_else(tmp_path: Path) -> None:
    run_folder(tmp_path, accuracy())
    assert command(tmp_path, ".").code == 0
    before = (tmp_path / "report.html").read_bytes()
    code = (
        "import resource, signal, sys\n"
        "from bertsquad import report\n"
        "from bertsquad.__main__ import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "sys.exit(main(['report', '.']))"
    )
    done = run_child(tmp_path, ["-c", code])
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert "report.html can't be written (File too large)" in done.err
    assert (tmp_path / "report.html").read_bytes() == before
    assert not list(tmp_path.glob(".report*"))


# In a browser.


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    started = pictures.browser()
    try:
        opened = started.__enter__()
    except SuiteError as error:
        pytest.skip(str(error))
    yield opened
    started.__exit__(None, None, None)


@pytest.fixture(scope="module")
def wide(folder: Path) -> Path:
    """A page of long words, wide tables and a history."""
    long = {"case": "x" * 300, "reason": "y" * 300, "verdict": FAILED, "warnings": ["z" * 300]}
    runs = [replace(on_nodes(performance("server"), 12, nodes_lost=[LOSS]), **{**LARGE, **long})]
    runs += [replace(performance("offline", day), **LARGE) for day in range(1, 9)]
    read = Archive(runs, [archive.Lost("m" * 200, "accuracy", FAILED, "n" * 99, "o", NOW)])
    write(read, folder / "wide.html")
    return folder / "wide.html"


@pytest.mark.parametrize("which", ["real", "wide"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_page_without_a_word_or_an_overflow(
    browser: Any, made: PytestSession, wide: Path, which: str, width: int, scheme: str
) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    url = (wide if which == "wide" else made.folder / "page.html").as_uri()
    tab.goto(url)
    for opened in (False, True):
        if opened:
            tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert (
            tab.evaluate(
                "[...document.querySelectorAll('main *')].filter("
                "one => !one.closest('.scroll, svg, thead') && "
                "one.getBoundingClientRect().right > innerWidth + 1).length"
            )
            == 0
        )
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (min(map(int, re.findall(r"\d+", ground))) > 200) == (scheme == "light")
    line = tab.evaluate("getComputedStyle(document.querySelector('svg.plot text')).fill")
    assert line != ground
    tab.close()
    assert asked == [url]
    assert said == []
