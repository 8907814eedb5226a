"""A real worker: it answers, it fails, it dies, and the pytest process knows."""

import contextlib
import gc
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from workers import Begun, is_gone, pid_of, start

from bertsquad.assets.fingerprint import Fingerprint, ModelFiles
from bertsquad.errors import BoundUnattainable, SuiteError, Unavailable
from bertsquad.loadgen import logs, timeline, work
from bertsquad.loadgen.request import Request
from bertsquad.machine import hardware
from bertsquad.models.zoo import files_of
from bertsquad.progress import Step
from bertsquad.runtime.parallelism import BATCH_TOKENS
from bertsquad.scenarios import MODES, SCENARIOS
from bertsquad.squad.datasets import CalibrationSet
from bertsquad.squad.features import save
from bertsquad.worker import handle
from bertsquad.worker.handle import Worker, WorkerDied, read_user_conf, try_devices
from bertsquad.worker.protocol import Failing, Ready, Setup, encode

ROOT = Path(__file__).resolve().parents[2]

#: One CPU that this process may use, to pin a thread to; none where a system can't.
CPUS = tuple((cpu,) for cpu in hardware.owned_cpus()[:1] if hasattr(os, "sched_setaffinity"))

#: A window that neither the warm-up nor the probe touches, so that LoadGen is the first to ask
#: for it; the tests see that by the "failing" event, which only a run sends.
UNTOUCHED = 14


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTSQUAD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


Begin = Callable[..., Begun]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose path holds what paths may hold."""
    path = tmp_path / "with a blank, ü"
    path.mkdir()
    return path


@pytest.fixture
def begin(folder: Path) -> Iterator[Begin]:
    """Start workers of the test's own, which end with it."""
    made: list[Begun] = []

    def begin_one(**others: Any) -> Begun:
        made.append(start(folder, **others))
        return made[-1]

    yield begin_one
    for one in made:
        one.worker.close()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begun]:
    """One worker for all tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("worker")
    made = start(folder, tiny.model(folder / "slow.onnx", slow=True))
    yield made
    made.worker.close()


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while not is_gone(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return is_gone(pid)


# What it answers.


def test_the_pytest_process_holds_neither_the_runtime_nor_loadgen() -> None:
    code = (
        "import sys, bertsquad.worker.handle, bertsquad.suite.harness\n"
        "found = {'onnxruntime', 'mlperf_loadgen'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(found)) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_worker_tells_of_its_model_before_the_first_case(begun: Begun) -> None:
    told = replace(begun.ready, versions={})
    assert told == Ready("as it is", "int64", padded_to=None, rebuilt=None)
    assert {"onnxruntime", "numpy"} <= begun.ready.versions.keys()


def apart_us(folder: Path) -> float:
    """How far LoadGen's percentiles are from the SUT's own, one rank up or down at best."""
    run, ordered_ns = logs.read_run(folder), np.sort(timeline.load(folder).latencies_ns)
    apart = []
    for percentile in (50.0, 90.0, 97.0):
        logged_ms = run.latency_ms(percentile)
        assert logged_ms is not None
        place = timeline.rank(len(ordered_ns), percentile)
        low, high = ordered_ns[[max(place - 1, 0), min(place + 1, len(ordered_ns) - 1)]] / 1e3
        apart.append(max(low - logged_ms * 1e3, logged_ms * 1e3 - high, 0.0))
    return float(max(apart))


@pytest.mark.parametrize("mode", MODES)
def test_a_run_ends_with_what_was_proven_and_counted(begun: Begun, mode: str) -> None:
    measured = begun.worker.run(begun.request("offline", mode, name=f"told-{mode}"), timeout_s=60)
    assert measured.provider == "CPUExecutionProvider"
    assert (
        measured.proof
        == "1 of 1 matrix products on CPUExecutionProvider, 1 of 1 calculated in fp32"
    )
    assert measured.batch_tokens == BATCH_TOKENS
    assert measured.batches > 1
    assert 0 < measured.padding_share < 0.5
    assert measured.peak_memory_bytes is not None
    assert 2**24 < measured.peak_memory_bytes < 2**32


def steps(made: Begun, request: Request) -> list[Step]:
    """What a worker tells of a run."""
    told: list[Step] = []

    def keep(message: Step | Failing) -> None:
        assert isinstance(message, Step)
        told.append(message)

    made.worker.run(request, 60, keep)
    return told


def phases(made: Begun, **others: Any) -> list[str]:
    """The steps that a worker says it goes through for an accuracy run of Offline."""
    told = steps(made, made.request("offline", "accuracy", name="phases", **others))
    return list(dict.fromkeys(step.name for step in told))


def test_sessions_are_made_for_the_first_case_and_for_another_division(begun: Begun) -> None:
    phases(begun)
    assert phases(begun) == phases(begun, batch_tokens=BATCH_TOKENS) == ["running"]
    divisions: tuple[dict[str, Any], ...] = (
        {"batch_tokens": 384},
        {"threads": 2},
        {"instances": 2},
    )
    for other in divisions:
        assert phases(begun, **other) == ["making the session", "warming up", "running"]
        assert phases(begun, **other) == ["running"]


def test_another_session_is_of_the_file_that_was_prepared_or_the_case_fails(
    folder: Path, begin: Begin
) -> None:
    path = tiny.model(folder / "tiny.onnx")
    made = begin(file=path)
    made.worker.run(made.request("offline", "accuracy"), 60)
    tiny.model(folder / "other.onnx", wide=True).replace(path)
    made.worker.run(made.request("offline", "accuracy"), 60)  # in the session that it has
    with pytest.raises(SuiteError, match=r"tiny\.onnx was changed after its checksum was taken"):
        made.worker.run(made.request("offline", "accuracy", batch_tokens=384), 60)


def test_warming_up_says_how_far_it_is(begun: Begun) -> None:
    request = begun.request("offline", "accuracy", name="warm", batch_tokens=300)
    warming = [step for step in steps(begun, request) if step.name == "warming up"]
    total = len({step.done for step in warming})
    assert total > 4
    assert {step.done for step in warming} == set(range(total))
    assert {(step.expected, step.unit) for step in warming} == {(total, "batches")}


@pytest.mark.parametrize(
    "scenario",
    [
        *("offline", "singlestream"),
        pytest.param("multistream", marks=pytest.mark.slow),
        pytest.param("server", marks=pytest.mark.slow),
    ],
)
def test_a_run_tells_once_a_second_how_far_it_is(begun: Begun, scenario: str) -> None:
    request = begun.request(
        scenario,
        "performance",
        name=f"told-{scenario}",
        target_qps=800.0 if scenario == "offline" else 200.0,
        target_latency_ms=5.0 if scenario != "server" else None,
        min_duration_s=2.5,
        batch_tokens=60,
    )
    told = [step for step in steps(begun, request) if step.name == "running"]
    first, *ticks = told
    assert first.done == 0
    assert 1 <= len(ticks) < 60
    counts = [step.done for step in told]
    assert None not in counts
    assert counts == sorted(counts, key=lambda count: count or 0)
    assert counts[-1]
    expected = {  # LoadGen adds a tenth in Offline
        "offline": (2_200, None),
        "singlestream": (64, 2.5),
        "multistream": (64, 2.5),
        "server": (64, 2.5),
    }[scenario]
    assert {(step.expected, step.duration_s) for step in ticks} == {expected}


def test_an_accuracy_run_expects_the_samples_that_it_is_asked_for(begun: Begun) -> None:
    told = steps(begun, begun.request("multistream", "accuracy", name="expected"))
    assert told[-1].name == "running"
    assert told[-1].expected == -(-len(begun.features) // 8) * 8


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(
    "division",
    [
        {"instances": 2},
        {"instances": 2, "threads": 2, "batch_tokens": 384},
        {"threads": 2},
        {"pins": CPUS[:1]},
        {"instances": 2, "pins": CPUS[:1] * 2, "batch_tokens": 4000},
    ],
    ids=["instances", "instances-and-threads", "threads", "pinned", "pinned-instances"],
)
def test_however_the_cores_are_divided_the_answers_are_the_same(
    begun: Begun, division: dict[str, Any], scenario: str
) -> None:
    found = begun.accuracy(scenario, name="divided", **division)
    expected = tiny.answers(begun.features)
    assert sorted(found) == list(range(len(expected)))
    for sample, logits in found.items():
        assert logits == pytest.approx(expected[sample], abs=1e-4)


def test_a_budget_of_one_padded_sample_is_a_batch_a_sample(folder: Path, begin: Begin) -> None:
    made = begin(file=tiny.model(folder / "long.onnx", length=384, hardwired=True))
    measured = made.worker.run(made.request("offline", "accuracy", batch_tokens=384), 60)
    assert measured.batches == 30
    assert measured.padding_share == pytest.approx(1 - made.features.lengths.mean() / 384)


def test_a_float_model_is_quantised_and_answers_much_the_same(folder: Path, begin: Begin) -> None:
    made = begin(
        file=tiny.model(folder / "wide.onnx", wide=True),
        precision="int8",
        calibration=CalibrationSet(str(folder / "tiny.npz"), (3, 5, 8, 20), "four windows"),
    )
    note = made.ready.preparation
    assert note == "1 of 2 matrix products quantised, calibrated with four windows"
    measured = made.worker.run(made.request("offline", "accuracy", name="int8", instances=2), 60)
    assert measured.proof.endswith("1 of 2 calculated in int8, the rest in fp32")
    found = logs.read_accuracy_log(made.folder / "int8")
    expected = tiny.answers(made.features)
    differences = [np.abs(found[sample] - expected[sample]).max() for sample in found]
    assert 1e-4 < max(differences) < 0.5


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_accuracy_logs_every_sample_with_the_models_own_logits(begun: Begun, scenario: str) -> None:
    found = begun.accuracy(scenario)
    expected = tiny.answers(begun.features)
    assert sorted(found) == list(range(len(expected)))
    assert len(expected) == 30  # no multiple of MultiStream's 8
    assert max(len(one) for one in expected) == 384
    for sample, logits in found.items():
        assert logits == pytest.approx(expected[sample], abs=1e-4)


# In the other scenarios LoadGen's clock starts before it calls.
@pytest.mark.parametrize("scenario", ["singlestream", "multistream"])
def test_the_suts_own_percentiles_are_loadgens_within_10_us_and_one_rank(
    begun: Begun, scenario: str
) -> None:
    apart = []
    for _ in range(10):  # a busy machine comes between the two clocks' readings, but not always
        request = begun.request(scenario, "performance", target_latency_ms=2.0)
        begun.worker.run(request, 60)
        apart.append(apart_us(Path(request.folder)))
        if apart[-1] <= 10:
            return
    pytest.fail(f"{apart} us apart")


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("instances", [1, 2])
def test_performance_is_probed_run_and_recorded(
    begun: Begun, scenario: str, instances: int
) -> None:
    request = begun.request(scenario, "performance", instances=instances)
    phases: list[str] = []
    measured = begun.worker.run(request, 60, lambda step: phases.append(getattr(step, "name", "")))
    run = logs.read_run(Path(request.folder))
    assert run.values["effective_scenario"] == SCENARIOS[scenario].loadgen_name
    assert run.values["effective_test_mode"] == "PerformanceOnly"
    assert run.values["effective_qsl_rng_seed"] == 2085463073848966840
    assert run.values["effective_sample_index_rng_seed"] == 2747215439041700203
    assert run.values["effective_schedule_rng_seed"] == 16159082839903944936
    assert run.values["effective_min_duration_ms"] == 50
    assert run.values["effective_performance_sample_count"] == len(begun.features)
    told = [phase for phase in phases if phase in ("probing", "running")]  # again every second
    assert list(dict.fromkeys(told)) == ["probing", "running"]

    latencies = timeline.load(Path(request.folder)).latencies_ns
    assert latencies.dtype == np.int64
    assert (latencies > 0).all()
    queries = run.values["result_query_count"]
    if scenario == "offline":
        queries = run.values["effective_samples_per_query"]
    assert len(latencies) == queries
    p50, p90, p99 = (run.latency_ms(percentile) for percentile in (50, 90, 99))
    assert p50 is not None and p90 is not None and p99 is not None
    assert 0 < p50 <= p90 <= p99
    targets = measured.targets
    assert targets is not None
    assert targets.source == "probe"
    if SCENARIOS[scenario].has_rate:
        assert (targets.qps or 0) > 0
        assert (run.metric(SCENARIOS[scenario]) or 0) > 0
    else:
        assert (targets.latency_ms or 0) > 0
    if scenario == "server":
        assert targets.latency_ms == 130
        assert run.values["effective_target_latency_ns"] == 130_000_000


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_audited_run_logs_responses_equal_to_the_models_logits(
    begun: Begun, scenario: str
) -> None:
    request = begun.request(scenario, "compliance")
    begun.worker.run(request, timeout_s=60)
    folder = Path(request.folder)
    assert logs.read_run(folder).values["effective_test_mode"] == "PerformanceOnly"
    responses = logs.read_responses(folder)
    assert responses
    expected = tiny.answers(begun.features)
    for sample, logits in responses:
        assert logits == pytest.approx(expected[sample], abs=1e-4)


def test_one_worker_runs_every_scenario_and_mode_in_any_order(begun: Begun) -> None:
    pid = pid_of(begun.worker)
    for scenario in reversed(SCENARIOS):
        for mode in reversed(MODES):
            request = begun.request(scenario, mode, name=f"again-{scenario}-{mode}")
            begun.worker.run(request, timeout_s=60)
            run = logs.read_run(Path(request.folder))
            wanted = "AccuracyOnly" if mode == "accuracy" else "PerformanceOnly"
            assert run.values["effective_test_mode"] == wanted
            assert run.values["effective_qsl_rng_seed"] == 2085463073848966840
    assert begun.worker.alive
    assert pid_of(begun.worker) == pid


def test_only_the_first_samples_are_run_where_fewer_are_wanted(begun: Begun) -> None:
    for scenario in SCENARIOS:
        found = begun.accuracy(scenario, name=f"few-{scenario}", samples=5)
        assert sorted(found) == list(range(5))


def test_the_buffer_size_is_loadgens_performance_sample_count(begun: Begun) -> None:
    request = begun.request("offline", "performance", name="buffer", buffer_size=7)
    begun.worker.run(request, timeout_s=60)
    run = logs.read_run(Path(request.folder))
    assert run.values["effective_performance_sample_count"] == 7
    assert run.values["qsl_reported_total_count"] == 30


@pytest.mark.parametrize(
    ("scenario", "given", "told"),
    [
        ("offline", {"target_qps": 123.0}, ("effective_target_qps", 123)),
        (
            "singlestream",
            {"target_latency_ms": 9.0},
            ("requested_single_stream_expected_latency_ns", 9_000_000),
        ),
        ("server", {"target_qps": 900.0}, ("effective_target_qps", 900)),
    ],
)
def test_a_target_that_the_user_gave_is_what_loadgen_is_told(
    begun: Begun, scenario: str, given: dict[str, float], told: tuple[str, float]
) -> None:
    request = begun.request(scenario, "performance", name=f"target-{scenario}", **given)
    measured = begun.worker.run(request, timeout_s=60)
    assert measured.targets is not None
    assert measured.targets.source == "option"
    assert measured.targets.qps == given.get("target_qps")
    assert logs.read_run(Path(request.folder)).values[told[0]] == told[1]


@pytest.mark.parametrize(
    ("scenario", "given", "named"),
    [
        ("offline", {"target_qps": 1e12}, "--target-qps 1e+12"),
        ("server", {"target_qps": 1e12}, "--target-qps 1e+12"),
        ("singlestream", {"target_latency_ms": 1e-9}, "--target-latency-ms 1e-09"),
        ("multistream", {"target_latency_ms": 1e-9}, "--target-latency-ms 1e-09"),
    ],
)
def test_a_target_beyond_what_loadgen_can_hold_starts_no_run_and_says_so(
    begun: Begun, scenario: str, given: dict[str, float], named: str
) -> None:
    request = begun.request(scenario, "performance", name=f"absurd-{scenario}", **given)
    with pytest.raises(SuiteError, match=re.escape(named)) as caught:
        begun.worker.run(request, timeout_s=60)
    assert not isinstance(caught.value, WorkerDied)
    assert not (Path(request.folder) / logs.DETAIL).exists()


@pytest.mark.parametrize(
    ("scenario", "mode", "line", "named"),
    [
        ("offline", "performance", "target_qps = 1e12", "target_qps 1e+12 of the user.conf over"),
        ("server", "performance", "target_qps = 1e12", "target_qps 1e+12 of the user.conf over"),
        ("singlestream", "performance", "target_latency = 1e-9", "target_latency 1e-09 of the"),
        ("offline", "performance", "min_duration = 600000000000", "the probed rate, --target-qps"),
        ("multistream", "performance", "min_duration = 600000000000", "the probed latency, "),
        ("server", "performance", "min_query_count = 5000000000", "min_query_count 5000000000 of"),
        ("singlestream", "performance", "min_query_count = 0", "a run of no query"),
        (
            "offline",
            "performance",
            "performance_issue_same_index = 5000",
            "5000 of the user.conf is beyond",
        ),
        ("offline", "accuracy", "accuracy_sample_count_override = 5", "--dataset-size"),
        ("offline", "accuracy", "min_duration = 5000", "performance_issue_same of the user.conf"),
    ],
)
def test_what_of_a_user_conf_loadgen_cannot_run_with_starts_no_run_and_is_named(
    begun: Begun, tmp_path: Path, scenario: str, mode: str, line: str, named: str
) -> None:
    path = tmp_path / "user.conf"
    name = SCENARIOS[scenario].loadgen_name
    path.write_text(f"*.*.performance_issue_same = 1\n*.{name}.{line}\n", encoding="utf-8")
    conf = read_user_conf(path)
    given: dict[str, Any] = {"user_conf": conf.file, "conf": conf.of(scenario)}
    if mode == "performance":  # a user.conf's own counts where no option is given
        given["min_duration_s"] = 1e-6 if "min_query_count = 0" in line else None
    request = begun.request(scenario, mode, name=f"{scenario}-{line}", **given)
    with pytest.raises(SuiteError, match=re.escape(named)) as caught:
        begun.worker.run(request, timeout_s=60)
    assert not isinstance(caught.value, WorkerDied)
    assert not (Path(request.folder) / logs.DETAIL).exists()


#: One of each that LoadGen reads in a user.conf and that changes the work.
WORK = {
    "samples_per_query": 2,
    "target_latency_percentile": 97,
    "coalesce_queries": 1,
    "max_async_queries": 5000,
    "performance_issue_unique": 0,
    "performance_issue_same": 1,
    "performance_issue_same_index": 2,
    "sample_concatenate_permutation": 0,
    "accuracy_log_sampling_target": 3,
    "min_query_count": 70,
    "max_query_count": 1000,
    "max_duration": 50_000,
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_run_has_the_settings_that_were_read_in_the_user_conf(
    begun: Begun, tmp_path: Path, scenario: str
) -> None:
    path = tmp_path / "user.conf"
    path.write_text("".join(f"*.*.{key} = {value}\n" for key, value in WORK.items()))
    given = {"user_conf": str(path), "conf": read_user_conf(path).of(scenario)}
    request = begun.request(scenario, "performance", name=f"worked-{scenario}", **given)
    begun.worker.run(request, timeout_s=60)
    found = work.effective(
        scenario, "performance", "quick", logs.read_run(Path(request.folder)).values
    )
    assert found == {key: WORK[key] for key in work.usual(scenario, "quick")}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_limit_of_a_user_conf_leaves_a_sample_out_of_an_accuracy_run(
    begun: Begun, tmp_path: Path, scenario: str
) -> None:
    path = tmp_path / "user.conf"
    limits = "max_query_count max_duration min_query_count performance_issue_unique".split()
    path.write_text("".join(f"*.*.{key} = 1\n" for key in (*limits, "samples_per_query")))
    given = {"user_conf": str(path), "conf": read_user_conf(path).of(scenario)}
    answers = begun.accuracy(scenario, name=f"limited-{scenario}", **given)
    assert sorted(answers) == list(range(len(begun.features)))


def test_a_query_has_the_samples_that_the_user_conf_gives_it(begun: Begun, tmp_path: Path) -> None:
    path = tmp_path / "user.conf"
    path.write_text("*.MultiStream.samples_per_query = 2\n", encoding="utf-8")
    given: dict[str, Any] = {"user_conf": str(path), "conf": read_user_conf(path).of("multistream")}
    steps: list[Step] = []
    request = begun.request("multistream", "performance", name="two", **given)
    begun.worker.run(request, 60, lambda told: steps.append(told) if type(told) is Step else None)
    run = logs.read_run(Path(request.folder))
    assert run.values["effective_samples_per_query"] == 2
    assert {step.expected for step in steps if step.name == "running"} == {8 * 2}


def test_a_target_far_below_what_the_device_can_do_runs_and_is_called_invalid(
    begun: Begun,
) -> None:
    request = begun.request("offline", "performance", name="absurdly-low", target_qps=1e-9)
    begun.worker.run(request, timeout_s=60)
    assert not logs.read_run(Path(request.folder)).valid


def test_a_server_bound_below_one_query_starts_no_run_and_says_so(begun: Begun) -> None:
    request = begun.request("server", "performance", name="unattainable", target_latency_ms=1e-6)
    with pytest.raises(BoundUnattainable, match="1e-06 ms can't be kept at any rate"):
        begun.worker.run(request, timeout_s=60)
    assert not list(Path(request.folder).iterdir())
    forced = begun.request(
        "server", "performance", name="forced", target_latency_ms=1e-6, target_qps=2000.0
    )
    targets = begun.worker.run(forced, timeout_s=60).targets
    assert targets is not None
    assert targets.qps == 2000
    run = logs.read_run(Path(forced.folder))
    assert "the latency bound was not kept" in run.invalid_reasons


def test_a_stray_audit_config_in_the_working_directory_changes_nothing(
    folder: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "audit.config").write_text(
        "*.*.mode = 2\n*.*.accuracy_log_rng_seed = 720381539243781796\n", encoding="utf-8"
    )
    monkeypatch.chdir(folder)
    made = begin()
    assert sorted(made.accuracy("offline")) == list(range(len(made.features)))


@pytest.mark.parametrize(
    ("trait", "note"),
    [
        ({"batch": 1}, "as it is"),
        ({"batch": 3}, "as it is"),
        ({"length": 384}, "logits proven equal"),
        ({"length": 384, "hardwired": True}, "every sample is padded"),
        ({"batch": 1, "length": 384, "hardwired": True}, "every sample is padded"),
        ({"inputs": ("input_ids", "attention_mask")}, "as it is"),
    ],
    ids=["batch-1", "batch-3", "relaxed", "padded", "padded-batch-1", "two-inputs"],
)
def test_a_model_with_fixed_sizes_answers_every_sample_the_same(
    folder: Path, begin: Begin, trait: dict[str, Any], note: str
) -> None:
    made = begin(file=tiny.model(folder / "other.onnx", **trait))
    assert note in made.ready.preparation
    expected = tiny.answers(made.features, "hardwired" in trait, "inputs" not in trait)
    for scenario in ("offline", "multistream"):
        found = made.accuracy(scenario)
        assert sorted(found) == list(range(len(expected)))
        for sample, logits in found.items():
            assert logits == pytest.approx(expected[sample], abs=1e-4)


# How it fails.


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begun]:
    """A worker whose model raises at the window UNTOUCHED."""
    folder = tmp_path_factory.mktemp("poisoned")
    model = tiny.model(folder / "poisoned.onnx", raises_on=tiny.POISON)
    made = start(folder, model, 61, poisoned=UNTOUCHED)
    yield made
    made.worker.close()


@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_model_that_raises_fails_its_case_alone_with_the_original_error(
    poisoned: Begun, scenario: str, instances: int
) -> None:
    request = poisoned.request(scenario, "accuracy", instances=instances)
    messages: list[Step | Failing] = []
    with pytest.raises(SuiteError, match="out of data bounds") as caught:
        poisoned.worker.run(request, 60, messages.append)
    assert not isinstance(caught.value, WorkerDied)
    assert "\n" not in str(caught.value)
    assert [type(message) for message in messages].count(Failing) == 1
    before = timeline.load(Path(request.folder)).latencies_ns
    assert len(before) < len(poisoned.features)  # what was answered until then is kept

    good = {"name": f"good-{scenario}", "samples": UNTOUCHED, "instances": instances}
    found = poisoned.accuracy(scenario, **good)
    assert sorted(found) == list(range(UNTOUCHED))
    assert poisoned.worker.alive


def test_a_failed_run_that_goes_on_is_stopped_with_the_original_error(
    folder: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle, "GRACE_S", 0.1)
    model = tiny.model(folder / "poisoned.onnx", raises_on=tiny.POISON)
    made = begin(file=model, questions=61, poisoned=UNTOUCHED)
    # Left alone it would end by itself, and the worker would live.
    request = made.request(
        "singlestream", "performance", target_latency_ms=50.0, min_duration_s=15.0
    )
    with pytest.raises(WorkerDied, match="out of data bounds"):
        made.worker.run(request)
    assert not made.worker.alive


def test_a_worker_that_dies_of_a_failed_run_is_told_with_the_original_error(
    folder: Path, begin: Begin
) -> None:
    model = tiny.model(folder / "poisoned.onnx", raises_on=tiny.POISON)
    made = begin(file=model, questions=61, poisoned=UNTOUCHED)

    def kill(message: Step | Failing) -> None:
        if isinstance(message, Failing):
            os.kill(pid_of(made.worker), signal.SIGKILL)

    request = made.request("singlestream", "accuracy")
    with pytest.raises(WorkerDied, match="out of data bounds"):
        made.worker.run(request, 60, kill)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_python_itself_prints_at_its_start_is_no_message(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "sitecustomize.py").write_text("print('welcome')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    made = Worker(folder / "worker.log")
    found = made.try_devices()
    made.close()
    assert found.reasons["cpu"] is None


GONE = ModelFiles("key", (Fingerprint("nowhere.onnx", "sha256", "0", (1, 2, 3, 4, 5)),))


@pytest.mark.parametrize(
    ("setup", "error", "complaint"),
    [
        ({"model": GONE}, SuiteError(), r"nowhere\.onnx was removed after its checksum"),
        ({"features": "nowhere.npz"}, SuiteError(), r"nowhere\.npz is not a cache of features"),
        (
            {"precision": "int8", "calibration": "its list is not here"},
            Unavailable("", "dataset"),
            r"tiny\.onnx can't be quantised: its list is not here",
        ),
        ({"precision": "bf16"}, Unavailable("", "device"), "cpu was asked for bf16"),
    ],
)
def test_a_worker_that_cannot_begin_says_why_and_is_gone(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    setup: dict[str, Any],
    error: SuiteError,
    complaint: str,
) -> None:
    pids: list[int] = []
    original = subprocess.Popen.__init__

    def spy(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        pids.append(self.pid)

    monkeypatch.setattr(subprocess.Popen, "__init__", spy)
    with pytest.raises(SuiteError, match=complaint) as caught:
        start(folder, **setup)
    assert type(caught.value) is type(error)
    assert vars(caught.value).keys() == vars(error).keys()
    # What is missing, if something is.
    assert getattr(caught.value, "subject", None) == getattr(error, "subject", None)
    assert len(pids) == 1
    assert is_gone(pids[0])


def test_every_device_is_tried_in_a_worker_of_its_own() -> None:
    reasons = try_devices().reasons
    assert list(reasons) == ["cpu", "openvino", "cuda", "tensorrt"]
    assert reasons["cpu"] is None
    assert all(reason is None or len(reason) > 20 for reason in reasons.values())


def test_a_user_conf_is_read_in_a_worker_of_its_own(folder: Path) -> None:
    path = folder / "user.conf"
    path.write_text("bert.Offline.target_qps = .5\n", encoding="utf-8")
    assert read_user_conf(path).of("offline") == {"target_qps": 0.5}
    path.write_text("bert.Offline.target_qps = .5#\n", encoding="utf-8")
    with pytest.raises(SuiteError, match="line 1: LoadGen drops the whole file") as caught:
        read_user_conf(path)
    assert not isinstance(caught.value, WorkerDied)


# How it dies.


def endless(begun: Begun) -> Request:
    """A run of minutes that hardly calculates."""
    return begun.request("server", "performance", target_qps=1.0, min_duration_s=600.0)


def when_running(action: Any) -> Any:
    def on_message(message: Step | Failing) -> None:
        if isinstance(message, Step) and message.name == "running":
            action()

    return on_message


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_was_killed_is_told_by_its_signal(
    begin: Begin, number: signal.Signals
) -> None:
    mortal = begin()
    kill = when_running(lambda: os.kill(pid_of(mortal.worker), number))
    with pytest.raises(WorkerDied, match=f"was killed by signal {int(number)} .{number.name}"):
        mortal.worker.run(endless(mortal), 60, kill)
    assert not mortal.worker.alive


def test_a_worker_that_died_between_two_cases_is_told_too(begin: Begin) -> None:
    mortal = begin()
    mortal.accuracy("offline")
    os.kill(pid_of(mortal.worker), signal.SIGKILL)
    assert wait_until_gone(pid_of(mortal.worker))
    with pytest.raises(WorkerDied, match="was killed by signal 9"):
        mortal.accuracy("offline")


def test_the_last_words_of_a_dead_worker_are_told(
    folder: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    monkeypatch.chdir(folder)  # where a core file would go
    made = begin()
    crash = when_running(lambda: os.kill(pid_of(made.worker), signal.SIGSEGV))
    with pytest.raises(WorkerDied, match=r"signal 11 .SIGSEGV.; its last words, from ") as caught:
        made.worker.run(endless(made), 60, crash)
    assert "Fatal Python error" in made.log.read_text(encoding="utf-8")
    assert "\n" not in str(caught.value)


def test_the_last_words_of_an_earlier_worker_are_not(folder: Path, begin: Begin) -> None:
    (folder / "worker.log").write_text("an error of yesterday\n", encoding="utf-8")
    made = begin()
    os.kill(pid_of(made.worker), signal.SIGKILL)
    with pytest.raises(WorkerDied) as caught:
        made.accuracy("offline")
    assert "yesterday" not in str(caught.value)


def test_a_result_that_waits_to_be_read_when_the_time_is_up_counts(
    begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after Ctrl-Z: neither the clock's thread nor the reading one ran for a while."""
    limit_s = 3.0
    goes_on = time.monotonic() + limit_s + 0.1
    messages = begun.worker._messages
    put = messages.put

    def put_late(message: Any) -> None:
        time.sleep(max(0.0, goes_on - time.monotonic()))
        put(message)

    monkeypatch.setattr(messages, "put", put_late)
    request = begun.request("offline", "performance", name="stopped")
    assert begun.worker.run(request, timeout_s=limit_s).seconds > 0


def test_a_case_that_takes_too_long_is_stopped_naming_the_option(begin: Begin) -> None:
    mortal = begin()
    with pytest.raises(WorkerDied, match=r"didn't end within 0\.5 s .*--case-timeout-s"):
        mortal.worker.run(endless(mortal), timeout_s=0.5)
    assert not mortal.worker.alive
    assert is_gone(pid_of(mortal.worker))


@dataclass
class Interrupting:
    """Ctrl-C, as it reaches the pytest process while it waits."""

    calls: list[Step | Failing] = field(default_factory=list)

    def __call__(self, message: Step | Failing) -> None:
        self.calls.append(message)
        raise KeyboardInterrupt


def test_an_interrupted_case_takes_its_worker_along(begin: Begin) -> None:
    mortal = begin()
    interrupting = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        mortal.worker.run(endless(mortal), 60, interrupting)
    assert len(interrupting.calls) == 1
    assert not mortal.worker.alive


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_a_case_measured_until_it_was_stopped_is_in_its_folder(
    begin: Begin, scenario: str
) -> None:
    mortal = begin()
    request = mortal.request(
        scenario, "performance", target_qps=1000.0, target_latency_ms=5.0, min_duration_s=600.0
    )
    with pytest.raises(WorkerDied, match="--case-timeout-s"):
        mortal.worker.run(request, timeout_s=2.5)
    found = timeline.load(Path(request.folder))
    assert len(found.latencies_ns) >= 8
    assert found.digest()["batches"]


def test_closing_ends_the_worker_and_may_be_repeated(begin: Begin) -> None:
    mortal = begin()
    assert mortal.worker.alive
    mortal.worker.close()
    assert not mortal.worker.alive
    assert is_gone(pid_of(mortal.worker))
    mortal.worker.close()


def test_a_closed_worker_leaves_no_file_open(folder: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Worker(folder / "worker.log").close()
        gc.collect()
    assert [str(one.message) for one in caught] == []


PARENT = """
import sys
from pathlib import Path
from bertsquad.worker.handle import Worker
from bertsquad.worker.protocol import decode

worker = Worker(Path(sys.argv[2]))
worker.prepare(decode(sys.argv[1]))
print(worker._process.pid, flush=True)
if len(sys.argv) > 3:
    worker.run(decode(sys.argv[3]), None, lambda step: print(step.name, flush=True))
sys.stdin.read()
"""


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in-a-run"])
def test_a_worker_ends_when_its_pytest_process_is_killed(folder: Path, busy: bool) -> None:
    built = tiny.build_features(folder)
    save(built, folder / "tiny.npz")
    model = tiny.model(folder / "tiny.onnx")
    setup = Setup(files_of(model), str(folder / "tiny.npz"), "cpu", "fp32", 1, "none")
    arguments = [encode(setup), str(folder / "worker.log")]
    if busy:
        request = Request(
            "server",
            "performance",
            "quick",
            str(folder),
            len(built),
            target_qps=1.0,
            min_duration_s=600.0,
        )
        arguments.append(encode(request))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        while busy and parent.stdout.readline().strip() != "running":
            assert parent.poll() is None
        assert not is_gone(pid)
    finally:
        parent.kill()
        parent.communicate()
    gone = wait_until_gone(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    assert gone


def test_the_worker_keeps_onnx_runtime_from_reporting_home(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    (folder / "sitecustomize.py").write_text(
        "import os, sys; print(os.environ.get('ORT_DISABLE_TELEMETRY'), file=sys.stderr)",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    made = Worker(folder / "worker.log")
    made.try_devices()
    made.close()
    assert (folder / "worker.log").read_text(encoding="utf-8").startswith("1\n")


#: Stands before the real one, and warns as a library does of its own affairs.
WARNS = """
import sys, warnings

warnings.warn("this goes away in the next version", UserWarning)
sys.path.remove({folder!r})
del sys.modules["onnxruntime"]
import onnxruntime
"""


def test_a_librarys_own_warning_fails_no_model_where_warnings_are_errors(
    folder: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = folder / "path" / "onnxruntime" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text(WARNS.format(folder=str(folder / "path")), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder / "path"))
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    assert begin().accuracy("offline")
    assert "goes away" in (folder / "worker.log").read_text(encoding="utf-8")


# What the system refuses.

prlimit = pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")


def limit(made: Begun, kind: str, value: int) -> None:
    """Give a worker that runs another limit."""
    import resource

    number = getattr(resource, kind)
    hard = resource.prlimit(pid_of(made.worker), number)[1]
    resource.prlimit(pid_of(made.worker), number, (value, hard))


@prlimit
@pytest.mark.parametrize("mode", ["accuracy", "performance"])
@pytest.mark.parametrize("most", [0, 5_000])
def test_logs_that_have_no_room_are_told_as_that_and_not_as_damaged(
    begin: Begin, mode: str, most: int
) -> None:
    made = begin()
    made.worker.run(made.request("offline", "accuracy", "before"), timeout_s=60)
    request = made.request("offline", mode)
    limit(made, "RLIMIT_FSIZE", most)
    with pytest.raises(SuiteError) as caught:
        made.worker.run(request, timeout_s=60)
    said = str(caught.value)
    assert said.startswith(f"{request.folder}/mlperf_log_")
    assert "can't be written (File too large): free some space, or choose another folder" in said
    assert "--output" in said and "ulimit -f" in said


@prlimit
def test_too_few_file_descriptors_are_told_as_that(begin: Begin) -> None:
    made = begin()
    made.worker.run(made.request("offline", "accuracy"), timeout_s=60)  # the session is there
    limit(made, "RLIMIT_NOFILE", len(list(Path(f"/proc/{pid_of(made.worker)}/fd").iterdir())))
    with pytest.raises(SuiteError, match=r"Too many open files.*ulimit -n"):
        made.worker.run(made.request("offline", "performance"), timeout_s=60)
