"""The root conftest's policy, seen from outside: real pytest sessions on the real benchmarks."""

import json
import re
import statistics
from itertools import groupby, product
from pathlib import Path
from typing import Any

import pytest
import tiny
from pytest_sessions import (
    JSON,
    SCENARIOS,
    PytestSession,
    name_of,
    run_pytest,
    run_pytest_sessions,
    run_tiny,
)

from bertsquad.__main__ import main
from bertsquad.assets import registry
from bertsquad.devices import DEVICES
from bertsquad.loadgen import timeline
from bertsquad.machine import hardware
from bertsquad.models import zoo
from bertsquad.runtime import parallelism
from bertsquad.runtime.availability import why_not
from bertsquad.runtime.parallelism import BATCH_TOKENS
from bertsquad.squad.datasets import DATASETS
from bertsquad.suite.cases import Case, division
from bertsquad.suite.flags import OPTIONS
from bertsquad.suite.options import Options

TESTS = ("accuracy", "performance", "compliance")
MODELS = ("minilm-pocket", "bert_large-squad")
CPU, GPU = ("cpu", "openvino"), ("cuda", "tensorrt")

#: The keys of `extra_info` and `result.json` that must not drift.
KEYS = frozenset(
    """schema_version model dataset sample_count scenario device precision provider rules qps
    latency_p50_ms latency_p90_ms latency_p99_ms mlperf_metric mlperf_metric_value target_qps
    target_latency_ms target_source loadgen_valid mlperf_valid invalid_reasons f1 exact_match
    f1_target verdict run_dir padding_share peak_memory_bytes provenance""".split()
)

#: What `provenance` says of how the work was divided.
DIVISION_KEYS = frozenset(
    "cores cpu_quota instances threads pinned_cpus batch_tokens batches provider_proof".split()
)


def ids(
    tests: tuple[str, ...] = TESTS,
    scenarios: tuple[str, ...] = SCENARIOS,
    devices: tuple[str, ...] = CPU + GPU,
) -> set[str]:
    return {
        f"benchmarks/test_{test}.py::test_{test}[{model}-{scenario}-{device}-fp32]"
        for test, model, scenario, device in product(tests, MODELS, scenarios, devices)
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("policy")


# What is collected.

SELECTIONS = {
    "": ids(),
    "-m cpu": ids(devices=CPU),
    "-m gpu": ids(devices=GPU),
    "-m cpu and performance": ids(("performance",), devices=CPU),
    "-m server and not gpu": ids(scenarios=("server",), devices=CPU),
    "-k singlestream": ids(scenarios=("singlestream",)),
    "-k server and performance": ids(("performance",), ("server",)),
    "-k offline and accuracy": ids(("accuracy",), ("offline",)),
    "-k compliance": ids(("compliance",)),
    "-k cpu": ids(devices=CPU),
    "--device=cpu": ids(devices=("cpu",)),
}

#: A selection of a model that has no answers to score or to audit.
RANDOM = "--model=bert_large_random"


@pytest.fixture(scope="module")
def collected(folder: Path) -> dict[str, list[str]]:
    selections = [*SELECTIONS, RANDOM]
    split = [selection.split(" ", 1) if selection else [] for selection in selections]
    pytest_sessions = run_pytest_sessions(
        folder / "collect", [["--collect-only", "-q", *s] for s in split]
    )
    assert [pytest_session.code for pytest_session in pytest_sessions] == [0] * len(selections)
    return {
        selection: [line for line in pytest_session.out.splitlines() if "::" in line]
        for selection, pytest_session in zip(selections, pytest_sessions, strict=True)
    }


@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_selection_collects_exactly_the_cases_it_names(
    collected: dict[str, list[str]], selection: str
) -> None:
    assert sorted(collected[selection]) == sorted(SELECTIONS[selection])


def test_the_ids_have_not_drifted(collected: dict[str, list[str]]) -> None:
    named = "benchmarks/test_accuracy.py::test_accuracy[minilm-pocket-offline-cpu-fp32]"
    assert named in collected[""]
    assert len(collected[""]) == len(TESTS) * 2 * 4 * 4


def test_cases_of_one_group_follow_each_other(collected: dict[str, list[str]]) -> None:
    groups = []
    for case in collected[""]:
        model, dataset, _, device, precision = case.partition("[")[2].rstrip("]").split("-")
        groups.append((model, dataset, device, precision))
    changes = [new for old, new in zip([None, *groups], groups, strict=False) if new != old]
    assert len(changes) == len(set(groups)) == 8


def test_cases_of_a_group_that_divide_the_cores_alike_follow_each_other(
    collected: dict[str, list[str]],
) -> None:
    divisions = []
    for name in collected[""]:
        model, dataset, scenario, device, precision = name.partition("[")[2].rstrip("]").split("-")
        case = Case(zoo.MODELS[model], DATASETS[dataset], scenario, device, precision)
        divisions.append((case.group, division(case, Options(), hardware.cores())))
    assert len(list(groupby(divisions))) == len(set(divisions))


def test_a_model_of_random_weights_has_performance_cases_alone(
    collected: dict[str, list[str]],
) -> None:
    found = [line for line in collected[RANDOM] if "bert_large_random" in line]
    name = "benchmarks/test_performance.py::test_performance[bert_large_random-squad-{}-{}-fp32]"
    assert sorted(found) == sorted(
        name.format(scenario, device) for scenario, device in product(SCENARIOS, CPU + GPU)
    )


def test_collecting_imports_no_runtime_and_says_what_is_under_test(folder: Path) -> None:
    here = folder / "spied"
    here.mkdir()
    (here / "spy.py").write_text(
        "import json, pathlib, sys\n"
        "def pytest_unconfigure():\n"
        "    pathlib.Path('modules.json').write_text(json.dumps(sorted(sys.modules)))\n"
    )
    pytest_session = run_pytest(
        here, "-p", "spy", "--collect-only", "--device=cpu", "--model=minilm"
    )
    assert pytest_session.code == 0
    modules = json.loads((here / "modules.json").read_bytes())
    assert "bertsquad.suite.cases" in modules
    assert {name.partition(".")[0] for name in modules}.isdisjoint(
        {"onnxruntime", "mlperf_loadgen"}
    )
    header, _, rest = pytest_session.out.partition("collected 12 items")
    for part in (
        "mlcommons-loadgen 6",
        "machine: ",
        "model minilm: ",
        "data set pocket: ",
        "quick",
    ):
        assert part in header
    for place in (folder / "data", folder / "cache", here / "results"):
        assert str(place) in header
    assert "12 cases to run, about " in rest
    assert not (here / "results").exists()


# What is refused.

WRONG = [
    "--dataset-size=0",
    "--dataset-size=-5",
    "--dataset-size=many",
    "--device=gpu3",
    "--device=CPU",
    "--rules=fast",
    "--model=nowhere.onnx",
    "--model=bert_huge",
    "--dataset=hotpot",
    "--precision=fp8",
    "--target-qps=-1",
    "--target-qps=nan",
    "--target-latency-ms=0",
    "--min-duration-s=inf",
    "--case-timeout-s=soon",
    "--buffer-size=0",
    "--accuracy-target=101",
    "--reference-f1=-3",
    "--output=file.txt",
    "--user-conf=nowhere.conf",
    "--user-conf=wrong.conf",
    "--user-conf=dropped.conf",
    "--user-conf=another.conf",
    "--user-conf=.",
    "--batch-tokens=383",
    "--batch-tokens=many",
    "--instances=0",
    "--instances=99999",
    "--threads=-1",
    "--threads=99999",
    "--gpus=0",
    "--gpus=99999",
    "--device=cpu --gpus=1",
    "--instances=9999 --threads=2",
    "--rules=mlperf --dataset-size=20",
    "--rules=mlperf --min-duration-s=10",
    "--device=cpu --precision=bf16",
    "--device=openvino --precision=fp16",
    "--device=cuda --precision=int8",
    "--device=tensorrt --model=bert_large_int8",
]


GIVEN = ("file.txt", "wrong.conf", "dropped.conf", "another.conf")


@pytest.fixture(scope="module")
def refused(folder: Path) -> dict[str, PytestSession]:
    here = folder / "refused"
    here.mkdir()
    (here / "file.txt").touch()
    (here / "wrong.conf").write_text("*.Offline.target_qps = 5\nOffline target 5\n")
    (here / "dropped.conf").write_text("bert.Offline.target_qps = 25#measured\n")
    (here / "another.conf").write_text("bert-99.Offline.target_qps = 25\n")
    pytest_sessions = run_pytest_sessions(here, [wrong.split() for wrong in WRONG])
    return dict(zip(WRONG, pytest_sessions, strict=True))


@pytest.mark.parametrize("wrong", WRONG)
def test_a_bad_value_is_one_line_of_usage_error(
    refused: dict[str, PytestSession], wrong: str
) -> None:
    pytest_session = refused[wrong]
    assert pytest_session.code == pytest.ExitCode.USAGE_ERROR
    assert pytest_session.out == ""
    (line,) = pytest_session.err.strip().splitlines()
    given = dict(word.split("=") for word in wrong.split())
    assert line.startswith("ERROR: --")
    assert any(flag in line and value in line for flag, value in given.items())


def test_a_bad_value_writes_nothing(refused: dict[str, PytestSession]) -> None:
    here = next(iter(refused.values())).folder
    assert sorted(path.name for path in here.rglob("*")) == sorted(GIVEN)
    assert not (here.parent / "data").exists()


def test_the_command_line_ends_with_status_4_for_a_bad_value(folder: Path) -> None:
    pytest_session = run_pytest(folder / "usage", "--target-qps", "-1", "-n", "2")
    assert pytest_session.code == 4
    assert pytest_session.err.strip() == "ERROR: --target-qps: expected a number above 0, got '-1'"
    assert list(pytest_session.folder.iterdir()) == []


#: How each option is typed: with its value, with or without one, or without.
TYPED = [(one.flag, one.metavar, one.bare is not None) for one in OPTIONS]


def test_help_shows_every_option_in_one_group_and_the_markers_are_registered(folder: Path) -> None:
    shown, markers = run_pytest_sessions(folder / "help", [["--help"], ["--markers"]])
    group = shown.out.partition("BERT on SQuAD under LoadGen:\n")[2].partition("\n\n")[0]
    starts = [line.split()[0] for line in group.splitlines() if line.startswith("  --")]
    forms = {flag: f"={metavar}" for flag, metavar, bare in TYPED if not bare}
    forms |= {flag: f"=[{metavar}]" if metavar else "" for flag, metavar, bare in TYPED if bare}
    assert starts == [f"{flag}{forms[flag]}" for flag, *_ in TYPED]
    for marker in ("cpu", "gpu", "slow", *TESTS, *SCENARIOS):
        assert f"@pytest.mark.{marker}:" in markers.out


# What is not there.


def way_out(name: str) -> tuple[str, ...]:
    """What must be said of a file that can't be had."""
    return name, *registry.entries()[name].urls, f"bertsquad fetch {name}", "BERTSQUAD_DATA"


@pytest.fixture(scope="module")
def main_job(folder: Path) -> PytestSession:
    return run_pytest(folder / "main", "-k", "offline and accuracy", "--dataset-size", "20")


def test_the_main_job_is_green_without_a_network(main_job: PytestSession) -> None:
    assert main_job.code == 0, main_job.out
    name = "test_accuracy[minilm-pocket-offline-cpu-fp32]"
    assert main_job.cases[name].outcome == "passed"
    assert main_job.result(name)["verdict"] == "passed"  # below the folder that it was called from
    outcomes = {name: case.outcome for name, case in main_job.cases.items() if "bert_large" in name}
    assert len(outcomes) == 4
    assert set(outcomes.values()) == {"skipped"}


def test_a_skip_for_a_missing_file_says_which_and_how_to_get_it(main_job: PytestSession) -> None:
    case = main_job.cases["test_accuracy[bert_large-squad-offline-cpu-fp32]"]
    for part in way_out("model.onnx"):
        assert part in case.message
    assert not [path for path in (main_job.folder.parent / "data").rglob("*") if path.is_file()]


def test_the_summary_counts_what_was_not_run_by_its_reason(main_job: PytestSession) -> None:
    told = main_job.out.partition(" BERT on SQuAD ")[2].splitlines()
    missing = [line for line in told if "not run" in line]
    assert any("not run: model.onnx (1.34 GB) is not in" in line for line in missing)
    skipped = [case for case in main_job.cases.values() if case.outcome == "skipped"]
    counts = [int(line.split()[0]) if line[0].isdigit() else 1 for line in missing]
    assert sum(counts) == len(skipped)


def test_the_summary_shows_the_f1_and_calls_a_subset_a_subset(main_job: PytestSession) -> None:
    name = "minilm-pocket-offline-cpu-fp32"
    result = main_job.result(f"test_accuracy[{name}]")
    summary = main_job.out.partition(" BERT on SQuAD ")[2]
    (row,) = (line for line in summary.splitlines() if line.startswith(f"{name}  "))
    assert re.split("  +", row)[1].startswith(f"{result['f1']:.3f} ± ")
    assert re.split("  +", row)[2] == "passed"
    assert f"a subset, 20 of {result['dataset_samples']} samples" in summary
    assert (result["sample_count"], result["dataset_samples"] > 20) == (20, True)


def test_junit_carries_the_f1(main_job: PytestSession) -> None:
    name = "test_accuracy[minilm-pocket-offline-cpu-fp32]"
    properties = main_job.cases[name].properties
    assert float(properties["f1"]) == main_job.result(name)["f1"]
    assert properties["verdict"] == "passed"


@pytest.fixture(scope="module")
def named_model(folder: Path) -> PytestSession:
    command = "--model=bert_large --device=cpu -k".split()
    return run_pytest(folder / "named", *command, "offline and accuracy")


def test_a_named_model_that_cannot_be_had_fails(named_model: PytestSession) -> None:
    assert named_model.code == pytest.ExitCode.TESTS_FAILED
    (case,) = named_model.cases.values()
    assert case.outcome == "failure"
    for part in way_out("model.onnx"):
        assert part in case.message


def test_a_failure_says_what_is_missing_once(named_model: PytestSession) -> None:
    above, _, below = named_model.out.partition("short test summary info")
    assert above.count("model.onnx (1.34 GB) is not in ") == 1
    listed, _, told = below.partition(" BERT on SQuAD ")
    assert "FAILED" in listed
    assert "model.onnx (1.34 GB) is not in " not in listed
    assert told.count("model.onnx (1.34 GB) is not in ") == 1


def test_a_named_device_that_is_not_here_fails(folder: Path) -> None:
    absent = next((name for name, device in DEVICES.items() if why_not(device)), None)
    if absent is None:
        pytest.skip("every device is here")
    pytest_session = run_pytest(
        folder / "absent",
        f"--device={absent}",
        "--model=minilm",
        "-k",
        "offline and not compliance",
    )
    assert pytest_session.code == pytest.ExitCode.TESTS_FAILED
    assert len(pytest_session.cases) == 2
    for case in pytest_session.cases.values():
        assert case.outcome == "failure"
        assert f"{absent}: {why_not(DEVICES[absent])}" in case.message
    assert "fixture was not used" not in pytest_session.out


def test_nothing_is_downloaded_for_a_device_that_is_not_here(folder: Path) -> None:
    absent = next((name for name, device in DEVICES.items() if why_not(device)), None)
    if absent is None:
        pytest.skip("every device is here")
    pytest_session = run_pytest(
        folder / "absent-large",
        f"--device={absent}",
        "--model=bert_large",
        "-k",
        "offline and accuracy",
    )
    (case,) = pytest_session.cases.values()
    assert case.outcome == "failure"
    assert f"{absent}: {why_not(DEVICES[absent])}" in case.message
    assert "model.onnx" not in case.message


# What is recorded, of a tiny model whose runs are over at once.


@pytest.fixture(scope="module")
def performance(folder: Path) -> PytestSession:
    conf = folder / "user.conf"
    conf.write_text("*.SingleStream.target_latency = 5\n*.Offline.target_qps = 77\n")
    return run_tiny(folder / "fast", "-k", "performance", *JSON, "--user-conf", str(conf))


@pytest.fixture(scope="module")
def recorded(performance: PytestSession) -> dict[str, Any]:
    assert performance.code == 0, performance.out
    return {entry["name"]: entry for entry in performance.benchmarks["benchmarks"]}


def detail_log(result: dict[str, Any]) -> dict[str, Any]:
    log = Path(result["run_dir"], "mlperf_log_detail.txt").read_text(encoding="utf-8")
    records = [json.loads(line[9:]) for line in log.splitlines() if line.startswith(":::MLLOG ")]
    return {record["key"]: record["value"] for record in records}


@pytest.mark.parametrize(
    ("scenario", "metric"),
    [
        ("offline", "result_samples_per_second"),
        ("server", "result_completed_samples_per_sec"),
    ],
)
def test_operations_a_second_are_loadgens_samples_a_second(
    recorded: dict[str, Any], scenario: str, metric: str
) -> None:
    entry = recorded[name_of("performance", scenario)]
    rate = detail_log(entry["extra_info"])[metric]
    assert entry["stats"]["ops"] == pytest.approx(rate, rel=1e-3)
    assert entry["stats"]["rounds"] == 1
    assert entry["extra_info"]["qps"] == rate


@pytest.mark.parametrize("scenario", ["singlestream", "multistream"])
def test_the_median_is_that_of_the_query_latencies(recorded: dict[str, Any], scenario: str) -> None:
    entry = recorded[name_of("performance", scenario)]
    result = entry["extra_info"]
    latencies = timeline.load(Path(result["run_dir"])).latencies_ns
    median_s = statistics.median(latencies.tolist()) / 1e9
    assert entry["stats"]["median"] == pytest.approx(median_s, rel=1e-9)
    assert entry["stats"]["rounds"] == len(latencies) == detail_log(result)["result_query_count"]
    kind = "percentile_per_query" if scenario == "multistream" else "percentile"
    for figure, percentile in (("p50", "50.00"), ("p90", "90.00"), ("p99_9", "99.90")):
        logged_ms = detail_log(result)[f"result_{percentile}_{kind}_latency_ns"] / 1e6
        assert result[f"latency_{figure}_ms"] == logged_ms


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_group_is_the_scenario_and_extra_info_is_the_whole_result(
    performance: PytestSession, recorded: dict[str, Any], scenario: str
) -> None:
    name = name_of("performance", scenario)
    entry = recorded[name]
    assert entry["group"] == scenario
    assert set(entry["extra_info"]) >= KEYS
    assert entry["extra_info"] == performance.result(name)
    assert entry["extra_info"]["mlperf_valid"] is False
    assert 0 <= entry["extra_info"]["padding_share"] < 1
    assert entry["extra_info"]["peak_memory_bytes"] > 2**24
    assert set(entry["extra_info"]["provenance"]) >= DIVISION_KEYS
    assert entry["extra_info"]["provenance"]["command"].startswith("pytest ")


def test_targets_come_from_the_option_then_the_user_conf_then_the_probe(
    recorded: dict[str, Any],
) -> None:
    sources = {
        scenario: recorded[name_of("performance", scenario)]["extra_info"]["target_source"]
        for scenario in SCENARIOS
    }
    assert sources == {
        "offline": "option",
        "singlestream": "user-conf",
        "multistream": "probe",
        "server": "option",
    }
    asked = recorded[name_of("performance", "offline")]["extra_info"]["target_qps"]
    assert asked == 200


def test_an_invalid_quick_run_passes_and_shows_its_reasons(performance: PytestSession) -> None:
    name = name_of("performance", "server")
    result = performance.result(name)
    assert result["loadgen_valid"] is False
    assert performance.cases[name].outcome == "passed"
    told = performance.out.partition(" BERT on SQuAD ")[2].splitlines()
    matter = f"{result['case']}, performance: LoadGen calls the run INVALID"
    (place,) = (place for place, line in enumerate(told) if line.startswith(matter))
    assert "early stopping" in told[place]
    cures = [line for line in told[place:] if line.startswith("  -> ")]
    assert "--min-duration-s" in cures[0]


def test_the_summary_ends_with_the_command_that_makes_a_page_of_the_results(
    performance: PytestSession,
) -> None:
    (line,) = (line for line in performance.out.splitlines() if "bertsquad report" in line)
    assert line.endswith(f"report {performance.folder / 'results'} -o report.html")


#: Settings that no option has, each in a scenario whose run shows it.
CONF_ALONE = """
*.Offline.performance_issue_unique = 1
*.SingleStream.target_latency_percentile = 50
*.SingleStream.max_query_count = 21
bert.MultiStream.samples_per_query = 3
bert.MultiStream.min_query_count = 11
*.Server.coalesce_queries = 1
*.Server.max_async_queries = 1
*.Server.sample_concatenate_permutation = 1
"""


@pytest.fixture(scope="module")
def conf_alone(folder: Path) -> PytestSession:
    conf = folder / "alone.conf"
    conf.write_text(CONF_ALONE)
    return run_tiny(folder / "alone", "-k", "performance", *JSON, "--user-conf", str(conf))


@pytest.mark.slow
def test_what_only_a_user_conf_can_set_decides_a_real_run(conf_alone: PytestSession) -> None:
    done = conf_alone
    assert done.code == 0, done.out
    assert "user.conf set samples_per_query 3 (usually 8)" in " ".join(done.out.split())
    results = {name: done.result(name_of("performance", name)) for name in SCENARIOS}
    log = {name: detail_log(result) for name, result in results.items()}
    assert results["singlestream"]["query_count"] == 21
    median = log["singlestream"]["result_50.00_percentile_latency_ns"] / 1e6
    assert results["singlestream"]["latency_p50_ms"] == median
    assert results["singlestream"]["settings"]["target_latency_percentile"] == 50
    run = timeline.load(Path(results["multistream"]["run_dir"]))
    assert run.batch_samples.sum() == 3 * len(run.issued_ns)
    assert results["multistream"]["query_count"] >= 11
    assert results["multistream"]["min_query_count"] == 11
    for key in ("coalesce_queries", "max_async_queries", "sample_concatenate_permutation"):
        assert results["server"]["settings"][key] == 1
    assert results["offline"]["settings"]["performance_issue_unique"] == 1


def test_pytest_sessions_of_unlike_settings_are_compared_and_called_unlike(
    performance: PytestSession, conf_alone: PytestSession, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(one.folder / "benchmarks.json") for one in (performance, conf_alone)]
    assert main(["compare", *files, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    seen = {(one["case"].split("-")[2], one["key"]): one["seen"] for one in found["changes"]}
    assert seen["offline", "qps"] == seen["server", "qps"] == "unlike runs"
    assert {one["ratio"] > 0 for one in found["changes"]} == {True}
    (where,) = (
        names for why, names in found["unlike"].items() if why == "samples_per_query is 3 and was 8"
    )
    assert where == [f"{name_of('performance', 'multistream')[17:-1]} (performance)"]


def test_a_user_conf_cannot_shorten_a_run_under_mlperfs_rules_unnoticed(folder: Path) -> None:
    conf = folder / "short.conf"
    conf.write_text("*.*.min_duration = 100\n*.*.min_query_count = 100\n")
    command = "--dataset pocket --device cpu --rules mlperf --user-conf".split()
    chosen = (
        "--model",
        str(tiny.model(folder / "tiny.onnx")),
        "-k",
        "singlestream and performance",
    )
    pytest_session = run_pytest(folder / "short", *command, str(conf), *chosen)
    assert pytest_session.code == pytest.ExitCode.USAGE_ERROR
    assert "short.conf sets min_duration to 100" in pytest_session.err


@pytest.fixture(scope="module")
def failing(folder: Path) -> PytestSession:
    return run_tiny(folder / "failing", "-k", "accuracy", *JSON, "--reference-f1", "100")


def test_a_missed_target_fails_with_all_that_explains_it(failing: PytestSession) -> None:
    assert failing.code == pytest.ExitCode.TESTS_FAILED
    name = name_of("accuracy", "offline")
    case, result = failing.cases[name], failing.result(name)
    assert case.outcome == "failure"
    for part in (f"F1 {result['f1']:.3f}", "99.000", f"{result['question_count']} questions"):
        assert part in case.message
    assert "tiny on pocket, cpu, fp32" in case.message
    assert "Traceback" not in failing.out


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_how_the_machine_was_divided_is_recorded(failing: PytestSession, scenario: str) -> None:
    found = failing.result(name_of("accuracy", scenario))["provenance"]
    shape = parallelism.plan(scenario, "cpu", hardware.cores(), owned=hardware.owned_cpus())
    assert (found["instances"], found["threads"]) == (shape.instances, shape.threads)
    assert found["pinned_cpus"] == [list(cpus) for cpus in shape.pins]
    assert found["batch_tokens"] == BATCH_TOKENS
    assert found["batches"] > 0
    assert found["cpu_quota"] == hardware.quota()


@pytest.mark.slow
def test_f1_is_the_same_however_the_machine_is_divided(
    failing: PytestSession, folder: Path
) -> None:
    options = "--instances 1 --threads 1 --batch-tokens 384".split()
    pytest_session = run_tiny(folder / "divided", "-k", "offline and accuracy", *options)
    assert pytest_session.code == 0, pytest_session.out
    usual, divided = (
        one.result(name_of("accuracy", "offline")) for one in (failing, pytest_session)
    )
    found = divided["provenance"]
    assert (found["instances"], found["threads"], found["batch_tokens"]) == (1, 1, 384)
    assert found["batches"] > 20  # batches of 1536 tokens would be 8
    assert divided["f1"] == pytest.approx(usual["f1"], abs=1e-3)
    assert divided["f1"] > 0


@pytest.mark.slow
def test_a_quantised_model_that_misses_the_target_is_a_failed_case(folder: Path) -> None:
    options = "--precision int8 --reference-f1 100".split()
    pytest_session = run_tiny(folder / "int8", "-k", "offline and accuracy", *options, wide=True)
    assert pytest_session.code == pytest.ExitCode.TESTS_FAILED
    name = name_of("accuracy", "offline", "int8")
    case, result = pytest_session.cases[name], pytest_session.result(name)
    assert (case.outcome, result["verdict"]) == ("failure", "failed")
    for part in (f"F1 {result['f1']:.3f}", "99.000", "tiny on pocket, cpu, int8"):
        assert part in case.message
    assert "windows of calibration-v1.1.json" in result["provenance"]["model_preparation"]
    assert result["provenance"]["provider_proof"].endswith(
        "1 of 2 calculated in int8, the rest in fp32"
    )


def test_f1_reaches_the_json_though_no_benchmark_ran(failing: PytestSession) -> None:
    assert failing.benchmarks["benchmarks"] == []
    accuracy = {entry["scenario"]: entry for entry in failing.benchmarks["accuracy"]}
    assert set(accuracy) == set(SCENARIOS)
    assert accuracy["server"] == failing.result(name_of("accuracy", "server"))
    assert {entry["verdict"] for entry in accuracy.values()} == {"failed"}


@pytest.mark.slow
def test_a_json_that_was_asked_for_is_written_though_nothing_ran(folder: Path) -> None:
    (pytest_session,) = run_pytest_sessions(folder / "nothing", [[*JSON, "-k", "nosuchcase"]])
    assert pytest_session.code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert (pytest_session.benchmarks["benchmarks"], pytest_session.benchmarks["accuracy"]) == (
        [],
        [],
    )


@pytest.fixture(scope="module")
def parallel(folder: Path) -> PytestSession:
    return run_tiny(folder / "parallel", "-n", "2", *JSON)


@pytest.mark.slow
def test_parallel_accuracy_is_the_same_and_reaches_the_json(
    parallel: PytestSession, failing: PytestSession
) -> None:
    assert parallel.code == 0, parallel.out

    def f1(pytest_session: PytestSession) -> dict[str, float]:
        return {entry["case"]: entry["f1"] for entry in pytest_session.benchmarks["accuracy"]}

    assert len(f1(parallel)) == len(SCENARIOS)
    assert f1(parallel) == f1(failing)


@pytest.mark.slow
def test_the_summary_of_a_parallel_pytest_session_has_every_row_and_what_was_left_out(
    parallel: PytestSession,
) -> None:
    told = parallel.out.partition(" BERT on SQuAD ")[2].splitlines()
    rows = [line.split()[0] for line in told if re.match(r"tiny-pocket-\S+fp32  ", line)]
    assert rows == [f"tiny-pocket-{scenario}-cpu-fp32" for scenario in SCENARIOS]
    (line,) = (line for line in told if "not run" in line)
    assert line.startswith("8 cases not run: cases that measure speed don't run under -n")


@pytest.mark.slow
@pytest.mark.parametrize("test", ["performance", "compliance"])
def test_what_measures_speed_skips_under_n_and_says_why(parallel: PytestSession, test: str) -> None:
    for scenario in SCENARIOS:
        case = parallel.cases[name_of(test, scenario)]
        assert case.outcome == "skipped"
        assert "don't run under -n" in case.message
