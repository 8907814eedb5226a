"""What is said before the first case. Estimates are rough, but in the right order."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bertsquad.cluster.address import Address
from bertsquad.loadgen.user_conf import UserConf
from bertsquad.machine import hardware, processor
from bertsquad.machine.processor import Processor
from bertsquad.models.zoo import MODELS
from bertsquad.scenarios import SCENARIOS
from bertsquad.squad.datasets import DATASETS
from bertsquad.suite.cases import Case, collect
from bertsquad.suite.header import estimate_s, header, workload
from bertsquad.suite.options import Options

CASE = Case(MODELS["minilm"], DATASETS["squad"], "offline", "cpu", "fp32")
LARGE = replace(CASE, model=MODELS["bert_large"])

MINUTE, HOUR = 60.0, 3600.0


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cores", lambda: 2)


def test_what_loadgen_reads_in_a_user_conf_is_said_and_what_has_no_effect() -> None:
    conf = UserConf("my.conf", {"offline": {"target_qps": 5.0}}, {"offline": {"target_qps": 1}}, [])
    assert "user.conf my.conf, as LoadGen reads it: offline target_qps 5" in header(
        Options(user_conf=conf)
    )
    many = replace(conf, passed_over=[f"line {n} (*.*.mode = 2)" for n in range(1, 12)])
    (told,) = (line for line in header(Options(user_conf=many)) if "of no effect" in line)
    assert "line 1 (*.*.mode = 2), line 2 " in told
    assert told.endswith("line 10 (*.*.mode = 2), ...")
    assert not any("user.conf" in line for line in header(Options()))


def test_the_processor_has_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Processor(("AVX2", "VNNI"), ("AMX",), 2, governor="powersave", hypervisor="KVM")
    monkeypatch.setattr(processor, "read", lambda: seen)
    monkeypatch.setattr(hardware, "quota", lambda *_: 1.5)
    told = [line for line in header(Options()) if line.startswith("processor: ")]
    assert told == [
        "processor: AVX2 VNNI, 2 threads a core, governor powersave, quota 1.5 CPUs, hypervisor KVM"
    ]


def test_a_cluster_is_named_and_its_speed_is_not_guessed() -> None:
    given = Options(cluster=Address("head:6379"))
    assert "cluster: head:6379" in header(given)
    told = workload([(CASE, "performance")] * 2, given)
    assert told == "2 cases to run on the cluster head:6379 if their files can be had"
    assert not any("cluster" in line for line in header(Options()))


def test_the_duration_of_a_user_conf_is_in_the_estimate() -> None:
    conf = UserConf("my.conf", {"offline": {"min_duration": 90_000}}, {"offline": {}}, [])
    assert estimate_s(CASE, "performance", Options(user_conf=conf)) >= 90
    given = Options(user_conf=conf, min_duration_s=1.0)
    assert estimate_s(CASE, "performance", given) < 90


def test_accuracy_takes_longer_with_more_samples_and_with_a_larger_model() -> None:
    few = estimate_s(CASE, "accuracy", Options())
    some = estimate_s(CASE, "accuracy", Options(dataset_size=1000))
    everything = estimate_s(CASE, "accuracy", Options(dataset_size="all"))
    assert few < some < everything
    assert estimate_s(LARGE, "accuracy", Options(dataset_size="all")) > 10 * everything


def test_accuracy_takes_less_on_more_cores_and_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(dataset_size="all")
    two_cores = estimate_s(LARGE, "accuracy", options)
    assert estimate_s(replace(LARGE, device="cuda"), "accuracy", options) < two_cores / 10
    monkeypatch.setattr(hardware, "cores", lambda: 32)
    assert estimate_s(LARGE, "accuracy", options) < two_cores / 8


def test_a_quick_case_is_said_to_take_seconds_and_the_large_models_dev_set_hours() -> None:
    quick = replace(CASE, dataset=DATASETS["pocket"])
    assert estimate_s(quick, "performance", Options()) < MINUTE
    assert estimate_s(quick, "accuracy", Options()) < MINUTE
    assert 1 * HOUR < estimate_s(LARGE, "accuracy", Options(dataset_size="all")) < 4 * HOUR


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_performance_takes_at_least_the_duration_that_was_asked_for(scenario: str) -> None:
    case = replace(CASE, scenario=scenario)
    quick = estimate_s(case, "performance", Options())
    assert 3 <= quick < MINUTE
    assert 100 <= estimate_s(case, "performance", Options(min_duration_s=100.0)) < 2 * MINUTE
    assert estimate_s(case, "performance", Options(rules="mlperf")) >= 10 * MINUTE
    longer = Options(rules="mlperf", min_duration_s=2 * HOUR)
    assert estimate_s(case, "performance", longer) >= 2 * HOUR


def test_mlperfs_offline_query_of_the_large_model_outlasts_the_minimum() -> None:
    assert estimate_s(LARGE, "performance", Options(rules="mlperf")) > HOUR


def test_the_header_says_what_is_under_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTSQUAD_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))
    text = "\n".join(header(Options(rules="mlperf", output=tmp_path / "out")))
    for part in (
        "onnxruntime",
        "mlcommons-loadgen",
        "cores; GPU: ",
        "model minilm: ",
        "model bert_large: MLPerf's BERT-large, fp32, 1.34 GB",
        "data set pocket: ",
        "data set squad: SQuAD v1.1 dev set, 10,570 questions",
        "rules: mlperf",
        *(str(tmp_path / name) for name in ("data", "cache", "out")),
    ):
        assert part in text


def test_the_header_leaves_out_what_was_not_asked_for() -> None:
    text = "\n".join(header(Options(models=(MODELS["minilm"],))))
    assert "bert_large" not in text
    assert "squad:" not in text


def test_the_workload_counts_the_cases_and_tells_seconds_from_minutes() -> None:
    quick = Options(models=(MODELS["minilm"],), devices=("cpu",))
    mlperf = replace(quick, rules="mlperf")
    cases = [(case, "performance") for case in collect(quick)]
    assert re.match(r"1 case to run, about \d\d? s on this machine", workload(cases[:1], quick))
    assert re.match(r"4 cases to run, about 4\d min on this machine", workload(cases, mlperf))
