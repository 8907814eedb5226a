"""What may be given on the command line, and what each option makes of its text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertsquad.errors import SuiteError
from bertsquad.models.zoo import MODELS
from bertsquad.suite import options
from bertsquad.suite.options import OPTIONS, Options, build

README = Path(__file__).resolve().parents[2] / "README.md"

PARSERS = {option.flag: option.parse for option in OPTIONS}


@pytest.mark.parametrize(
    ("flag", "text", "value"),
    [
        ("--model", "minilm", MODELS["minilm"]),
        ("--dataset", "squad", "squad"),
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


@pytest.mark.parametrize(
    ("parse", "texts"),
    [
        (options.count, ("0", "-1", "1.5", "", "ten", "nan")),
        (options.tokens, ("383", "1", "0", "-384", "384.0", "many")),
        (options.size, ("0", "-20", "ALL", "everything")),
        (options.positive, ("0", "-1", "nan", "inf", "-inf", "1e999", "", "fast")),
        (options.per_cent, ("0", "-99", "100.1", "99%")),
        (options.choice("cpu", "cuda"), ("gpu3", "CPU", "", "cpu ")),
    ],
)
def test_a_bad_value_is_quoted_in_one_line(
    parse: Callable[[str], object], texts: tuple[str, ...]
) -> None:
    for text in texts:
        with pytest.raises(SuiteError) as caught:
            parse(text)
        assert repr(text) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_budget_smaller_than_a_sample_says_how_large_a_sample_is() -> None:
    with pytest.raises(SuiteError) as caught:
        options.tokens("383")
    assert str(caught.value) == (
        "expected at least 384, the tokens of the longest sample, got '383'"
    )


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


def test_a_user_conf_is_read_while_parsing(tmp_path: Path) -> None:
    conf = tmp_path / "user.conf"
    conf.write_text("# mine\n*.Offline.target_qps = 12\nbert.Server.target_latency = 100\n")
    parsed: Any = PARSERS["--user-conf"](str(conf))
    assert parsed.path == conf
    assert parsed.of("offline") == {"target_qps": 12.0}
    conf.write_text("*.Offline.target_qps = 12\n\n*.Sometimes.target_qps = 3\n")
    with pytest.raises(SuiteError, match=r"line 3: .*Sometimes"):
        PARSERS["--user-conf"](str(conf))
    with pytest.raises(SuiteError, match=r"nowhere\.conf can't be read"):
        PARSERS["--user-conf"](str(tmp_path / "nowhere.conf"))


def test_a_user_conf_with_a_word_for_a_number_is_refused_while_parsing(tmp_path: Path) -> None:
    conf = tmp_path / "user.conf"
    conf.write_text("*.Offline.target_qps = fast\n")
    with pytest.raises(SuiteError, match="line 1"):
        PARSERS["--user-conf"](str(conf))


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


def test_every_option_has_a_field_of_its_own_and_the_readme_lists_it() -> None:
    assert {option.field for option in OPTIONS} == set(Options.__dataclass_fields__)
    readme = README.read_text(encoding="utf-8")
    for option in OPTIONS:
        assert f"| `{option.flag} " in readme
