"""What may be given on the command line, and what each option makes of its text."""

import os
import re
import subprocess
from collections.abc import Collection
from pathlib import Path

import nvidia_smi
import pytest

from bertsquad.assets import registry
from bertsquad.cluster.address import Address
from bertsquad.devices import DEVICES, PRECISIONS
from bertsquad.errors import SuiteError
from bertsquad.loadgen.request import Request, given_targets
from bertsquad.loadgen.user_conf import UserConf
from bertsquad.models.zoo import MODELS
from bertsquad.rules import RULES
from bertsquad.runtime.engine import batch_tokens
from bertsquad.squad.datasets import DATASETS, find
from bertsquad.squad.features import MAX_TOKENS
from bertsquad.squad.hugging_face import DOC_STRIDE
from bertsquad.suite.cases import Case, collect, division, sample_count
from bertsquad.suite.earlier import expected
from bertsquad.suite.flags import OPTIONS, Option, build
from bertsquad.suite.options import Options

LISTED = Path(__file__).resolve().parents[2] / "docs" / "options.md"

posix = pytest.mark.skipif(os.name != "posix", reason="needs a shell")

PARSERS = {option.flag: option.parse for option in OPTIONS}


@pytest.mark.parametrize(
    ("flag", "text", "value"),
    [
        ("--model", "minilm", MODELS["minilm"]),
        ("--dataset", "squad", DATASETS["squad"]),
        ("--device", "openvino", "openvino"),
        ("--precision", "bf16", "bf16"),
        ("--dataset-size", "1", 1),
        ("--dataset-size", "all", "all"),
        ("--buffer-size", "1024", 1024),
        ("--target-qps", "12.5", 12.5),
        ("--target-latency-ms", "1e3", 1000.0),
        ("--min-duration-s", "0.2", 0.2),
        ("--case-timeout-s", "60", 60.0),
        ("--batch-tokens", "384", 384),
        ("--batch-tokens", "10000", 10_000),
        ("--instances", "1", 1),
        ("--threads", "64", 64),
        ("--gpus", "8", 8),
        ("--precision", "fp16", "fp16"),
        ("--model", "bert_large_random", MODELS["bert_large_random"]),
        ("--rules", "mlperf", "mlperf"),
        ("--accuracy-target", "99.9", 99.9),
        ("--accuracy-target", "100", 100.0),
        ("--reference-f1", "88.5", 88.5),
    ],
)
def test_a_good_value_is_read(flag: str, text: str, value: object) -> None:
    assert PARSERS[flag](text) == value


def test_what_was_not_given_stays_at_its_default() -> None:
    given = {option.field: None for option in OPTIONS}
    assert build(given) == Options()
    assert Options().rules == "quick"
    assert Options().accuracy_target == 99.0
    assert Options().output == Path("results").absolute()


def test_what_was_given_arrives_and_repeated_options_become_tuples() -> None:
    given = build({"devices": ["cpu", "openvino"], "dataset_size": "all", "rules": "quick"})
    assert given == Options(devices=("cpu", "openvino"), dataset_size="all")


def test_options_that_are_not_the_suites_are_none_of_its_business() -> None:
    assert build({"verbose": 2, "target_qps": 5.0}) == Options(target_qps=5.0)


def test_mlperf_rules_refuse_what_would_shorten_the_run() -> None:
    for size in (20, "all"):
        with pytest.raises(SuiteError, match="--dataset-size"):
            Options(rules="mlperf", dataset_size=size)
    with pytest.raises(SuiteError, match=r"--min-duration-s 599\.9"):
        Options(rules="mlperf", min_duration_s=599.9)
    assert Options(rules="mlperf", min_duration_s=600.0).min_duration_s == 600.0
    assert Options(rules="quick", min_duration_s=0.2, dataset_size=20).dataset_size == 20


def test_a_number_of_nodes_is_for_a_cluster_that_can_have_it() -> None:
    with pytest.raises(SuiteError, match=r"give one with --cluster auto\|HOST:PORT\|local:N"):
        Options(nodes=2)
    with pytest.raises(SuiteError, match="--nodes 3 can't go with --cluster local:2, which has 2"):
        Options(nodes=3, cluster=Address("local:2", 2))
    assert Options(nodes=2, cluster=Address("local:2", 2)).nodes == 2
    assert Options(nodes=3, cluster=Address("head:6379")).nodes == 3
    assert Options(nodes=3, cluster=Address("auto")).nodes == 3


def test_a_users_model_is_called_by_its_stem_in_lower_case(tmp_path: Path) -> None:
    file = tmp_path / "My Fine-tuned.v2.onnx"
    file.touch()
    model = PARSERS["--model"](str(file))
    assert (model.name, model.path) == ("my_fine-tuned.v2", file)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["nowhere.onnx", "bert_huge", "", "model.pb"])
def test_a_model_that_is_neither_known_nor_a_file_is_named(name: str) -> None:
    with pytest.raises(SuiteError) as caught:
        PARSERS["--model"](name)
    assert name in str(caught.value)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "saved.onnx").mkdir()
    with pytest.raises(SuiteError, match=r"saved\.onnx"):
        PARSERS["--model"](str(tmp_path / "saved.onnx"))


def test_a_user_conf_is_what_loadgen_reads_in_it_before_anything_runs(tmp_path: Path) -> None:
    conf = tmp_path / "user.conf"
    conf.write_text("# mine\n*.Offline.target_qps = .5\nbert.Server.target_latency = 100\n")
    options = build({"user_conf": PARSERS["--user-conf"](str(conf))})
    assert options.user_conf is not None
    assert options.user_conf.file == str(conf)
    assert options.user_conf.of("offline") == {"target_qps": 0.5}
    conf.write_text("*.Offline.target_qps = 12\n\n*.Sometimes.target_qps = 3\n")
    with pytest.raises(SuiteError, match=r"--user-conf: .*line 3: .*Sometimes"):
        build({"user_conf": conf})
    with pytest.raises(SuiteError, match=r"nowhere\.conf can't be read"):
        PARSERS["--user-conf"](str(tmp_path / "nowhere.conf"))


def test_without_a_user_conf_no_process_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    assert build({}).user_conf is None


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"target_qps": 5.0, "target_latency": 7.0}, None),
        ({"min_duration": 600_000}, None),
        ({"min_duration": 700_000}, None),
        ({"samples_per_query": 8, "max_query_count": 0}, None),  # as LoadGen has them itself
        ({"min_duration": 599_999}, "sets min_duration to 599999 for multistream"),
        ({"samples_per_query": 2}, "sets samples_per_query to 2 for multistream"),
        ({"max_query_count": 10}, "sets max_query_count to 10 for multistream"),
    ],
)
def test_a_user_conf_may_not_change_what_mlperf_leaves_to_loadgen(
    settings: dict[str, float], refused: str | None
) -> None:
    own = {
        "target_qps": 1.0,
        "target_latency": 80.0,
        "min_duration": 600_000,
        "samples_per_query": 8,
        "max_query_count": 0,
    }
    conf = UserConf("some.conf", {"multistream": settings}, {"multistream": own}, [])
    if refused is None:
        Options(rules="mlperf", user_conf=conf)
    else:
        with pytest.raises(SuiteError, match=rf"some\.conf {refused}, but --rules mlperf"):
            Options(rules="mlperf", user_conf=conf)


def test_the_output_folder_need_not_be_there_yet(tmp_path: Path) -> None:
    assert PARSERS["--output"](str(tmp_path)) == tmp_path
    assert PARSERS["--output"](str(tmp_path / "new" / "results")) == tmp_path / "new" / "results"
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_output_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SuiteError, match="is a file"):
        PARSERS["--output"](str(tmp_path / "file"))


def test_a_folder_beneath_a_file_is_no_output_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SuiteError):
        PARSERS["--output"](str(tmp_path / "file" / "results"))


def test_every_option_has_a_field_of_its_own_and_the_docs_list_it() -> None:
    assert {option.field for option in OPTIONS} == set(Options.__dataclass_fields__)
    listed = LISTED.read_text(encoding="utf-8")
    for option in OPTIONS:
        assert f"| `{option.flag}{' ' if option.metavar else '`'}" in listed


# What the help says is what happens.

HELP = {option.flag: option.help for option in OPTIONS}

NAMES: dict[str, Collection[str]] = {
    "--model": MODELS,
    "--dataset": DATASETS,
    "--device": DEVICES,
    "--precision": PRECISIONS,
    "--rules": RULES,
}

NUMBER = (("0.5", "1e3"), ("0", "-1", "fast", "inf"))
SHARE = (("1.5", "99", "99.9", "100"), ("0", "0.885", "1", "100.1", "99%"))
#: What the forms that a help names take, and what they don't.
FORMS = {
    "N": (("384", "10000"), ("0", "384.5", "all")),
    "N|all": (("1", "384", "all"), ("0", "1.5", "some")),
    **dict.fromkeys(("QPS", "MS", "S"), NUMBER),
    **dict.fromkeys(("PERCENT", "F1"), SHARE),
    "BAND": (("0.5", "5", "100"), ("0", "-1", "101", "5%")),
}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.flag)
def test_an_option_takes_the_form_that_its_help_names(option: Option, tmp_path: Path) -> None:
    there, conf, model = tmp_path / "there", tmp_path / "user.conf", tmp_path / "my.onnx"
    there.mkdir()
    conf.write_text("*.Offline.target_qps = 12\n")
    questions = tmp_path / "mine.json"
    for file in (model, questions):
        file.touch()
    cases = tmp_path / "cases.txt"
    cases.write_text("# every night\nminilm-pocket-offline-cpu-fp32  # the small one\n\n")
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "model.onnx").touch()
    names = tuple(NAMES.get(option.flag, ()))
    files = {"--user-conf": conf, "--calibration": questions}
    forms = FORMS | {
        "NAME": (names, ("gpu3", "", str(there))),
        "NAME|FILE": ((*names, str(questions)), ("gpu3", str(there), str(conf))),
        "NAME|DIR|FILE": ((*names, str(model), str(whole)), ("gpu3", str(there), str(conf))),
        "FILE": ((str(files.get(option.flag)),), (str(there), str(tmp_path / "nowhere"))),
        "FILE|DIR": ((str(conf), str(there)), (str(tmp_path / "nowhere"),)),
        "X": (("0", "-1.5", "1e3"), ("", "none", "nan", "inf")),
        "START,END": (("a,b", "output_0, output_1", "both,both"), ("", "a", "a,b,c", ",b")),
        "auto|HOST:PORT|local:N": (
            ("auto", "head:6379", "local:2"),
            ("", "head", "local:0", "ray://head:10001"),
        ),
        "DIR": ((str(there), str(tmp_path / "new")), (str(conf),)),
        "CASE|FILE": (
            ("minilm-pocket-offline-cpu-fp32", "my-own.v2-a-b-server-openvino-bf16", str(cases)),
            ("", "minilm", "minilm-pocket-offline-cpu", str(conf), str(questions), str(there)),
        ),
        "": ((), ()),
    }
    good, bad = forms[option.metavar]
    for text in good:
        option.parse(text)
    for text in bad:
        with pytest.raises(SuiteError):
            option.parse(text)


@pytest.mark.parametrize("flag", NAMES)
def test_the_help_lists_the_names_that_an_option_takes_and_no_others(flag: str) -> None:
    parts = re.split(", | or |: |; ", HELP[flag].partition(" (default")[0])
    assert {part for part in parts if re.fullmatch("[a-z0-9_]+", part)} == set(NAMES[flag])


def test_the_help_says_which_options_may_be_repeated() -> None:
    for option in OPTIONS:
        assert ("may be repeated" in option.help) == option.repeats


def samples(dataset: str, given: Options) -> int | str:
    """How much of a data set of a million samples a case runs."""
    count = sample_count(
        Case(MODELS["minilm"], DATASETS[dataset], "offline", "cpu", "fp32"), given, 10**6
    )
    return "all" if count == 10**6 else count


@posix
def test_the_defaults_that_the_help_states_are_those_that_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, mlperf, whole = Options(), Options(rules="mlperf"), Options(dataset_size="all")
    cases = collect(Options(models=tuple(MODELS.values())))
    offline, server, on_gpu = (
        Case(MODELS["minilm"], DATASETS["pocket"], scenario, device, "fp32")
        for scenario, device in (("offline", "cpu"), ("server", "cpu"), ("offline", "cuda"))
    )
    assert {case.dataset.name == case.model.dataset for case in cases} == {True}
    assert {case.precision == case.model.precision for case in cases} == {True}
    assert {case.device for case in cases} == set(DEVICES)
    (other,) = {case.model.name for case in cases if case.precision != "fp32"}
    bundled = {name: registry.entries()[str(one.file)].bundled for name, one in DATASETS.items()}
    (few,) = {samples(name, plain) for name in DATASETS if not bundled[name]}
    (all_of,) = {samples(name, plain) for name in DATASETS if bundled[name]}
    answered = sample_count(server, plain, 10**6, "accuracy")
    assert {samples(name, mlperf) for name in DATASETS} == {"all"}
    timed, official = (
        expected(offline, given, {"dataset_samples": 494}) for given in (plain, mlperf)
    )
    assert timed["buffer_size"] == timed["sample_count"]
    assert whole.timeout_s is mlperf.timeout_s is None
    for scenario in ("offline", "server", "singlestream", "multistream"):
        assert given_targets(Request(scenario, "performance", "quick", "", 20)) is None
    cores = 64
    assert division(offline, plain, cores).instances == cores
    shared = cores // division(server, plain, cores).instances
    assert division(offline, Options(instances=4), cores).threads == cores // 4
    nvidia_smi.put(tmp_path, monkeypatch)
    everywhere = division(on_gpu, plain, cores)
    assert sorted(everywhere.gpus) == everywhere.used == [0, 1, 2]
    assert plain.output.parent == Path.cwd()
    assert {flag: re.findall(r"\(default: ([^)]*)\)", text) for flag, text in HELP.items()} == {
        "--model": [" and ".join(dict.fromkeys(case.model.name for case in collect(plain)))],
        "--dataset": ["the model's own"],
        "--device": ["all"],
        "--precision": [f"the one the model is stored in, fp32 for all but {other}"],
        "--dataset-size": [
            f"{few} of a downloaded data set, {all_of} of a bundled one, but {answered} of it for "
            "accuracy outside of Offline; always all under --rules mlperf"
        ],
        "--buffer-size": ["all that are run"],
        "--target-qps": ["probed"],
        "--target-latency-ms": ["probed", f"{timed['target_latency_ms']:g}"],
        "--min-duration-s": [
            f"{timed['min_duration_s']:g}, under --rules mlperf {official['min_duration_s']:g}"
        ],
        "--case-timeout-s": [f"{plain.timeout_s:g}; none for whole data sets"],
        "--batch-tokens": [f"{batch_tokens(DEVICES['cpu'])}; on a GPU what its free memory holds"],
        "--instances": [
            f"in Offline one a core, in Server one for {shared} cores; on GPUs one each"
        ],
        "--threads": ["its share of the physical cores"],
        "--gpus": ["all"],
        "--cluster": ["this machine alone, without Ray"],
        "--nodes": ["all that are there"],
        "--rules": [plain.rules],
        "--accuracy-target": [f"{plain.accuracy_target:g}"],
        "--reference-f1": [],
        "--output": [plain.output.name],
        "--user-conf": [],
        "--tokenizer": ["the one beside the model; BERT's uncased vocabulary where there is none"],
        "--max-length": [f"{MAX_TOKENS}, or fewer where the model takes no more"],
        "--doc-stride": [f"{DOC_STRIDE}, or a third of a shorter window"],
        "--null-threshold": [f"{plain.null_threshold:g}"],
        "--outputs": ["asked of the model by known questions"],
        "--calibration": ["some of those, which are left out then"],
        "--gate": [],
        "--gate-accept": [],
        "--require": [],
    }


def test_a_null_threshold_without_questions_of_ones_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.json").touch()
    own = find(str(tmp_path / "mine.json"))
    assert Options(datasets=(own,), null_threshold=5.0).null_threshold == 5.0
    with pytest.raises(SuiteError, match="--null-threshold is for data of your own"):
        Options(null_threshold=-0.5)


def test_a_limit_that_was_given_counts_for_whole_data_sets_too() -> None:
    assert Options(dataset_size="all", case_timeout_s=60.0).timeout_s == 60.0


def test_gpus_without_a_gpu_device_are_refused() -> None:
    for devices in ((), ("cuda",), ("cpu", "tensorrt")):
        assert Options(devices=devices, gpus=2).gpus == 2
    for devices in (("cpu",), ("openvino", "cpu")):
        with pytest.raises(
            SuiteError, match="--gpus 2 is for GPUs: give --device cuda or tensorrt"
        ):
            Options(devices=devices, gpus=2)


def test_a_required_case_may_stand_in_a_file_among_comments(tmp_path: Path) -> None:
    one, two = "minilm-pocket-offline-cpu-fp32", "minilm-pocket-server-cpu-int8"
    file = tmp_path / "cases.txt"
    file.write_text(f"# every night\n{one}  # the headline\n\n  {two}\n", encoding="utf-8")
    parse = PARSERS["--require"]
    assert parse(str(file)) == (one, two)
    assert build({"requires": [parse(str(file)), parse(one)]}).required == (one, two)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "got 'nothing in "),
        (b"# nothing yet\n", "got 'nothing in "),
        (b"minilm-pocket-offline-cpu-fp23\n", "got 'minilm-pocket-offline-cpu-fp23'"),
        (b"\xff\xfe\n", "is no text"),
    ],
)
def test_a_file_that_names_no_case_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "cases.txt"
    file.write_bytes(content)
    with pytest.raises(SuiteError) as caught:
        PARSERS["--require"](str(file))
    assert said in str(caught.value)


def test_to_accept_figures_needs_a_gate() -> None:
    with pytest.raises(SuiteError, match="--gate-accept is for --gate"):
        Options(gate_accept=True)
    assert Options(gate=5.0, gate_accept=True).gate_accept


@pytest.mark.parametrize("text", ["benchmarks", "0", "-5", "nan", "200", "five"])
def test_a_band_that_is_none_is_told_how_to_be_written(text: str) -> None:
    with pytest.raises(SuiteError, match="write --gate=5, or --gate as the last word"):
        PARSERS["--gate"](text)
