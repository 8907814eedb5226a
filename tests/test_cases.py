"""Which cases the options ask for, what they are called, and what each of them runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from bertsquad import cases, devices
from bertsquad.cases import Case, collect, is_named, missing_device, sample_count
from bertsquad.errors import SuiteError
from bertsquad.models import MODELS, find
from bertsquad.options import Options

MINILM, BERT, INT8 = (MODELS[name] for name in ("minilm", "bert_large", "bert_large_int8"))

CASE = Case(MINILM, "pocket", "offline", "cpu", "fp32")


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
    assert {(case.model.name, case.dataset, case.precision) for case in found} == {
        ("minilm", "pocket", "fp32"),
        ("bert_large", "squad", "fp32"),
    }


def test_every_named_option_multiplies_the_cases() -> None:
    options = Options(
        models=(MINILM, BERT),
        datasets=("squad", "pocket"),
        devices=("openvino",),
        precisions=("fp32", "bf16"),
    )
    assert len(ids(options)) == 2 * 2 * 1 * 2 * 4
    assert "bert_large-pocket-server-openvino-bf16" in ids(options)


def test_what_is_named_twice_runs_once() -> None:
    twice = Options(models=(MINILM, MINILM), devices=("cpu", "cpu"))
    assert ids(twice) == ids(Options(models=(MINILM,), devices=("cpu",)))


def test_cases_of_one_session_stand_side_by_side() -> None:
    sessions = [case.session for case in collect(Options())]
    assert all(len(set(sessions[start : start + 4])) == 1 for start in range(0, 32, 4))


def test_a_quantised_model_runs_in_int8_where_that_can_be_had() -> None:
    found = collect(Options(models=(INT8,)))
    assert {case.precision for case in found} == {"int8"}
    assert {case.device for case in found} == {"cpu", "openvino"}


def test_a_precision_leaves_out_the_devices_that_lack_it() -> None:
    found = collect(Options(models=(MINILM,), precisions=("bf16",)))
    assert {case.device for case in found} == {"openvino"}


def test_a_device_and_a_precision_it_lacks_named_together_are_refused() -> None:
    with pytest.raises(SuiteError, match=r"--device cpu can't calculate in bf16.*openvino"):
        collect(Options(devices=("cpu",), precisions=("bf16",)))


def test_a_users_model_is_a_case_like_any_other(tmp_path: Path) -> None:
    model = find(str(own_model(tmp_path)))
    options = Options(models=(model,), datasets=("pocket",), devices=("cpu",))
    assert ids(options)[0] == "mine-pocket-offline-cpu-fp32"


def test_two_files_of_one_name_are_never_taken_for_each_other(tmp_path: Path) -> None:
    models = tuple(find(str(own_model(tmp_path / folder))) for folder in ("old", "new"))
    with pytest.raises(SuiteError, match="rename a file"):
        collect(Options(models=models, datasets=("pocket",), devices=("cpu",)))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (Options(), set()),
        (Options(models=(MINILM,)), {"model", "dataset"}),
        (Options(datasets=("squad",)), {"dataset"}),
        (Options(devices=("cuda",)), {"device"}),
        (Options(precisions=("fp32",), dataset_size=20), set()),
        (Options(precisions=("bf16",)), {"device"}),
    ],
)
def test_only_what_was_named_is_asked_for(options: Options, named: set[str]) -> None:
    case = collect(options)[0]
    subjects = ("model", "dataset", "device")
    assert {what for what in subjects if is_named(what, case, options)} == named


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
    assert sample_count(replace(CASE, dataset=dataset), options, 494) == samples


def test_a_device_that_shows_to_be_missing_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert missing_device(CASE) is None
    monkeypatch.setattr(devices, "_nvidia_driver", lambda: False)
    for device in ("cuda", "tensorrt"):
        reason = cases.missing_device(replace(CASE, device=device))
        assert reason is not None
        assert reason.startswith(f"{device}: ")
