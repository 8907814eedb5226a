"""Which cases the options ask for, what they are called, and what each of them runs."""

from dataclasses import replace
from pathlib import Path

import nvidia_smi
import pytest

from bertsquad.cluster.address import Address
from bertsquad.errors import SuiteError
from bertsquad.machine import gpus
from bertsquad.models.zoo import MODELS, find
from bertsquad.runtime.parallelism import Parallelism
from bertsquad.scenarios import MODES, SCENARIOS
from bertsquad.squad import datasets
from bertsquad.squad.datasets import DATASETS
from bertsquad.suite import cases
from bertsquad.suite.cases import (
    Case,
    collect,
    division,
    is_named,
    missing_device,
    not_for_clusters,
    of_test,
    running_order,
    sample_count,
)
from bertsquad.suite.options import Options

MINILM, BERT, INT8, RANDOM = (
    MODELS[name] for name in ("minilm", "bert_large", "bert_large_int8", "bert_large_random")
)

CASE = Case(MINILM, DATASETS["pocket"], "offline", "cpu", "fp32")


def own_model(folder: Path, name: str = "mine.onnx") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).touch()
    return folder / name


def ids(options: Options) -> list[str]:
    return [case.id for case in collect(options)]


def test_a_case_is_named_and_marked_after_what_it_runs() -> None:
    assert CASE.id == "minilm-pocket-offline-cpu-fp32"
    assert CASE.markers == ("offline", "cpu")
    assert replace(CASE, device="openvino").markers == ("offline", "cpu")
    assert replace(CASE, device="cuda", scenario="server").markers == ("server", "gpu")
    assert replace(CASE, device="tensorrt").markers == ("offline", "gpu")


def test_without_options_both_models_meet_every_scenario_and_device() -> None:
    found = collect(Options())
    assert len(found) == len(set(found)) == 2 * 4 * 4
    assert {(case.model.name, case.dataset.name, case.precision) for case in found} == {
        ("minilm", "pocket", "fp32"),
        ("bert_large", "squad", "fp32"),
    }


def test_every_named_option_multiplies_the_cases() -> None:
    options = Options(
        models=(MINILM, BERT),
        datasets=(DATASETS["squad"], DATASETS["pocket"]),
        devices=("openvino",),
        precisions=("fp32", "bf16"),
    )
    assert len(ids(options)) == 2 * 2 * 1 * 2 * 4
    assert "bert_large-pocket-server-openvino-bf16" in ids(options)


def test_what_is_named_twice_runs_once() -> None:
    twice = Options(models=(MINILM, MINILM), devices=("cpu", "cpu"))
    assert ids(twice) == ids(Options(models=(MINILM,), devices=("cpu",)))


def test_cases_of_one_group_stand_side_by_side() -> None:
    groups = [case.group for case in collect(Options())]
    assert all(len(set(groups[start : start + 4])) == 1 for start in range(0, 32, 4))


def test_a_quantised_model_runs_in_int8_where_that_can_be_had() -> None:
    found = collect(Options(models=(INT8,)))
    assert {case.precision for case in found} == {"int8"}
    assert {case.device for case in found} == {"cpu", "openvino"}


@pytest.mark.parametrize(
    ("precision", "able"),
    [
        ("fp32", {"cpu", "openvino", "cuda", "tensorrt"}),
        ("bf16", {"openvino"}),
        ("fp16", {"cuda", "tensorrt"}),
        ("int8", {"cpu", "openvino"}),
    ],
)
def test_a_precision_leaves_out_the_devices_that_lack_it(precision: str, able: set[str]) -> None:
    found = collect(Options(models=(MINILM,), precisions=(precision,)))
    assert {case.device for case in found} == able
    assert {case.precision for case in found} == {precision}


@pytest.mark.parametrize(
    ("device", "precision", "others"),
    [
        ("cpu", "bf16", "openvino"),
        ("cpu", "fp16", "cuda, tensorrt"),
        ("openvino", "fp16", "cuda, tensorrt"),
        ("cuda", "int8", "cpu, openvino"),
        ("tensorrt", "bf16", "openvino"),
    ],
)
def test_a_device_and_a_precision_it_lacks_named_together_are_refused(
    device: str, precision: str, others: str
) -> None:
    with pytest.raises(SuiteError) as caught:
        collect(Options(devices=(device,), precisions=(precision,)))
    assert str(caught.value) == (
        f"--device {device} can't calculate in {precision}; that runs on {others}"
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_model_of_random_weights_is_for_speed_alone(mode: str) -> None:
    options = Options(models=(RANDOM, MINILM), devices=("cpu",))
    models = [case.model.name for case in collect(options, mode)]
    random = ["bert_large_random"] * 4 if mode == "performance" else []
    assert models == [*random, *["minilm"] * 4]


def test_a_model_of_random_weights_must_be_named() -> None:
    assert RANDOM not in {case.model for case in collect(Options())}
    assert {case.dataset.name for case in collect(Options(models=(RANDOM,)))} == {"squad"}


def test_a_case_divides_the_cores_as_its_scenario_and_the_options_say() -> None:
    server = replace(CASE, scenario="server")
    assert division(CASE, Options(), 8) == Parallelism(8, 1)
    assert division(server, Options(), 8) == Parallelism(1, 8)
    assert division(replace(CASE, device="cuda"), Options(), 8).instances == 1
    for case in (CASE, server):
        assert division(case, Options(instances=2), 8) == Parallelism(2, 4)
        assert division(case, Options(threads=2), 8) == Parallelism(4, 2)
        assert division(case, Options(instances=1, threads=3), 8) == Parallelism(1, 3)
    pinned = division(CASE, Options(), 2, owned=(4, 6))
    assert pinned == Parallelism(2, 1, ((4,), (6,)))


def test_a_users_model_is_a_case_like_any_other(tmp_path: Path) -> None:
    model = find(str(own_model(tmp_path)))
    options = Options(models=(model,), datasets=(DATASETS["pocket"],), devices=("cpu",))
    assert ids(options)[0] == "mine-pocket-offline-cpu-fp32"


def test_two_files_of_one_name_are_never_taken_for_each_other(tmp_path: Path) -> None:
    models = tuple(find(str(own_model(tmp_path / folder))) for folder in ("old", "new"))
    with pytest.raises(SuiteError, match="rename a file"):
        collect(Options(models=models, datasets=(DATASETS["pocket"],), devices=("cpu",)))


def test_two_files_of_questions_of_one_name_are_never_taken_for_each_other(tmp_path: Path) -> None:
    names = ("a/mine.jsonl", "b/Mine.json", "a/\u65e5\u672c.json", "a/\u672c\u65e5.json")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    one, other, *foreign = (datasets.find(str(tmp_path / name)) for name in names)
    assert len(collect(Options(models=(MINILM,), datasets=(one, one)))) == 4 * 4
    with pytest.raises(SuiteError, match=r"data sets would both be called mine: rename.*b/Mine\."):
        collect(Options(models=(MINILM,), datasets=(one, other)))
    with pytest.raises(SuiteError, match="data sets would both be called _"):
        collect(Options(models=(MINILM,), datasets=tuple(foreign)))


def test_names_that_make_one_when_they_are_joined_are_refused(tmp_path: Path) -> None:
    models = tuple(find(str(own_model(tmp_path, name))) for name in ("a.onnx", "a-b.onnx"))
    for name in ("b-c.json", "c.json"):
        (tmp_path / name).touch()
    sets = tuple(datasets.find(str(tmp_path / name)) for name in ("b-c.json", "c.json"))
    with pytest.raises(SuiteError, match="cases would both be called a-b-c-offline-cpu-fp32"):
        collect(Options(models=models, datasets=sets))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (Options(), set()),
        (Options(models=(MINILM,)), {"model", "dataset"}),
        (Options(datasets=(DATASETS["squad"],)), {"dataset"}),
        (Options(devices=("cuda",)), {"device"}),
        (Options(precisions=("fp32",), dataset_size=20), set()),
        (Options(precisions=("bf16",)), {"device"}),
        (Options(precisions=("int8",)), {"device"}),
        (Options(instances=2, threads=1, batch_tokens=384), set()),
    ],
)
def test_only_what_was_named_is_asked_for(options: Options, named: set[str]) -> None:
    case = collect(options)[0]
    subjects = ("model", "dataset", "device")
    assert {what for what in subjects if is_named(what, case, options)} == named
    assert is_named(
        "cluster", case, options
    )  # which is no default, so it was named if it's missing


def test_a_named_device_that_cannot_run_a_models_precision_is_refused() -> None:
    quantised = Options(models=(find("bert_large_int8"),), devices=("cuda",))
    with pytest.raises(SuiteError, match="cuda can't calculate in int8"):
        collect(quantised)


def test_a_file_may_not_have_the_name_of_a_model_of_mlperfs(tmp_path: Path) -> None:
    (tmp_path / "bert_large.onnx").touch()
    with pytest.raises(SuiteError, match="rename the file"):
        find(str(tmp_path / "bert_large.onnx"))


@pytest.mark.parametrize(
    ("dataset", "options", "samples"),
    [
        ("pocket", Options(), 494),
        ("squad", Options(), 20),
        ("squad", Options(dataset_size=7), 7),
        ("pocket", Options(dataset_size=7), 7),
        ("squad", Options(dataset_size="all"), 494),
        ("squad", Options(dataset_size=10**6), 494),
        ("squad", Options(rules="mlperf"), 494),
    ],
)
def test_the_samples_are_those_asked_for_but_no_more_than_there_are(
    dataset: str, options: Options, samples: int
) -> None:
    assert sample_count(replace(CASE, dataset=DATASETS[dataset]), options, 494) == samples


@pytest.mark.parametrize(
    ("options", "offline", "others"),
    [
        (Options(), 494, 100),
        (Options(dataset_size=300), 300, 300),
        (Options(dataset_size="all"), 494, 494),
        (Options(rules="mlperf"), 494, 494),
    ],
)
def test_by_default_offline_alone_answers_all_for_accuracy(
    options: Options, offline: int, others: int
) -> None:
    for scenario in SCENARIOS:
        case = replace(CASE, scenario=scenario)
        expected = offline if scenario == "offline" else others
        assert sample_count(case, options, 494, "accuracy") == expected
        assert sample_count(case, options, 494) == offline  # what is timed stays as it is


def test_a_model_in_fp32_runs_before_its_other_precisions() -> None:
    other = replace(MINILM, name="other")
    asked = [
        Case(model, DATASETS["pocket"], scenario, device, precision)
        for model in (MINILM, other)
        for precision in ("int8", "fp32")
        for device in ("cpu", "openvino")
        for scenario in ("offline", "server")
    ]
    order = [asked[index] for index in running_order(asked, Options(), 8)]
    assert sorted(order, key=str) == sorted(asked, key=str)
    assert [(one.model.name, one.precision) for one in order[::4]] == [
        *(("minilm", "fp32"), ("minilm", "int8"), ("other", "fp32"), ("other", "int8"))
    ]


def test_a_device_that_shows_to_be_missing_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert missing_device(CASE, Options()) is None
    nvidia_smi.without(monkeypatch)
    monkeypatch.setattr(gpus, "_has_driver", lambda: False)
    for device in ("cuda", "tensorrt"):
        reason = cases.missing_device(replace(CASE, device=device), Options())
        assert reason is not None
        assert reason.startswith(f"{device}: ")
        elsewhere = Options(cluster=Address("head:6379"))
        assert cases.missing_device(replace(CASE, device=device), elsewhere) is None


def test_only_scenarios_with_many_queries_at_a_time_run_on_a_cluster() -> None:
    on_cluster = Options(cluster=Address("local:2", 2))
    for scenario in ("offline", "server"):
        assert not_for_clusters(replace(CASE, scenario=scenario), on_cluster) is None
    for scenario, name in (("singlestream", "SingleStream"), ("multistream", "MultiStream")):
        case = replace(CASE, scenario=scenario)
        assert not_for_clusters(case, Options()) is None
        reason = not_for_clusters(case, on_cluster)
        assert str(reason).startswith(f"{name} has one query at a time, which")


def test_cases_run_by_group_and_in_it_by_division_in_the_order_of_their_first() -> None:
    def made(scenario: str, device: str) -> Case:
        return Case(MINILM, DATASETS["pocket"], scenario, device, "fp32")

    asked = [
        made("server", "cpu"),
        made("offline", "openvino"),
        made("offline", "cpu"),
        made("singlestream", "cpu"),
        made("server", "openvino"),
        made("server", "cpu"),
    ]
    # On 8 cores Server and SingleStream are one instance of 8 threads, Offline 8 of one.
    assert running_order(asked, Options(), 8) == [0, 3, 5, 2, 1, 4]
    assert running_order([], Options(), 8) == []


def test_a_case_is_found_by_the_name_of_its_test() -> None:
    options = Options(devices=("cpu",))
    for mode in MODES:
        for case in collect(options, mode):
            test = f"benchmarks/test_{mode}.py::test_{mode}[{case.id}]"
            assert of_test(test, options) == (case, mode)
            assert of_test(test.replace("]", "-1-3]"), options) == (case, mode)
    assert of_test("tests/suite/test_cases.py::test_another", options) is None
    assert of_test("benchmarks/test_accuracy.py::test_accuracy[other]", options) is None
