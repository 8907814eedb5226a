"""A result is kept whole in `result.json`, and says how it is made again."""

import itertools
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made import OFFICIAL, REFERENCE, performance

from bertsquad.errors import SuiteError
from bertsquad.results.document import result_in
from bertsquad.results.result import (
    FAILED,
    NO_TARGET,
    PASSED,
    RESULT,
    UNDECIDED,
    repeat_command,
)
from bertsquad.suite import flags
from bertsquad.suite.flags import OPTIONS


def test_a_result_is_read_back_or_named(tmp_path: Path) -> None:
    result = replace(performance(), run_dir=str(tmp_path))
    with pytest.raises(SuiteError, match=r"result\.json can't be read"):
        result_in(tmp_path)
    result.save()
    assert result_in(tmp_path) == result
    whole = (tmp_path / RESULT).read_text(encoding="utf-8")
    for text, complaint in (
        (whole.replace('"schema_version": 1', '"schema_version": 99'), "schema version 99"),
        (whole[:100], "cut short or damaged"),
        (whole.replace('"case"', '"kase"'), "is no result of this suite"),
        ("[]", "is no result of this suite"),
    ):
        (tmp_path / RESULT).write_text(text, encoding="utf-8")
        with pytest.raises(SuiteError, match=complaint):
            result_in(tmp_path)


def test_padding_and_memory_are_kept_and_may_be_unknown(tmp_path: Path) -> None:
    for share, memory in ((0.25, 2**30), (0.0, None), (None, None)):
        result = replace(
            performance(), run_dir=str(tmp_path), padding_share=share, peak_memory_bytes=memory
        )
        result.save()
        document = json.loads((tmp_path / RESULT).read_bytes())
        assert (document["padding_share"], document["peak_memory_bytes"]) == (share, memory)
        assert result_in(tmp_path) == result


def test_only_a_failed_result_has_a_failure() -> None:
    for word in (PASSED, UNDECIDED, NO_TARGET):
        assert replace(OFFICIAL, verdict=word, reason="because").failure is None
    assert replace(OFFICIAL, verdict=FAILED, reason="because").failure == "because"


def test_a_result_is_saved_as_whole_json(tmp_path: Path) -> None:
    result = replace(OFFICIAL, run_dir=str(tmp_path), reason="F1 zu niedrig « né »", f1=1 / 3)
    result.save()
    (file,) = tmp_path.iterdir()
    assert file.name == RESULT
    text = file.read_text(encoding="utf-8")
    assert json.loads(text) == result.as_dict()
    assert text.endswith("}\n")
    assert "« né »" in text
    assert json.loads(text)["schema_version"] == 1


def test_saving_replaces_what_was_there_before(tmp_path: Path) -> None:
    long = replace(OFFICIAL, run_dir=str(tmp_path), reason="x" * 10_000)
    long.save()
    replace(long, reason="short").save()
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_bytes())["reason"] == "short"


def test_a_result_that_cannot_be_json_leaves_the_old_one_whole(tmp_path: Path) -> None:
    result = replace(OFFICIAL, run_dir=str(tmp_path))
    result.save()
    before = (tmp_path / RESULT).read_bytes()
    with pytest.raises(TypeError):
        replace(result, provenance={"path": tmp_path}).save()
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]


def repeated(**changes: Any) -> list[str]:
    """The words of the line that runs a case again."""
    facts: dict[str, Any] = {"model_path": None, "dataset_path": None, "user_conf": None}
    facts |= {"given": {}, "instances": 2, "threads": 4, "batch_tokens": 1536}
    facts |= changes.pop("provenance", {})
    return shlex.split(repeat_command(replace(OFFICIAL, **changes, provenance=facts)))


def test_a_line_that_repeats_a_case_names_its_test_and_what_it_was_run_with() -> None:
    words = repeated(target_qps=12.5, min_duration_s=600.0, buffer_size=10_833)
    test = "benchmarks/test_performance.py::test_performance[bert_large-squad-offline-cpu-fp32]"
    assert words[:2] == ["pytest", test]
    assert " ".join(words[2:]) == (
        "--model bert_large --dataset squad --device cpu --precision fp32 --rules mlperf "
        "--instances 2 --threads 4 --batch-tokens 1536 --min-duration-s 600.0 --target-qps 12.5"
    )


def test_a_line_that_repeats_a_case_on_gpus_has_as_many_of_them() -> None:
    words = repeated(device="cuda", provenance={"gpu_ids": ["2", "0"]})
    assert words[words.index("--gpus") + 1] == "2"
    assert "--gpus" not in repeated(provenance={"gpu_ids": []})  # on a CPU
    assert "--gpus" not in repeated()  # in older results


def test_a_line_that_repeats_a_quick_case_names_its_size() -> None:
    assert repeated(rules="quick", buffer_size=10_833)[-4:] == (
        "--dataset-size all --buffer-size 10833".split()
    )
    subset = repeated(rules="quick", sample_count=20, mode="accuracy", accuracy_target=99.9)
    assert subset[-4:] == "--accuracy-target 99.9 --dataset-size 20".split()


def test_a_line_that_repeats_a_case_runs_first_what_it_was_judged_by() -> None:
    quantised = {"mode": "accuracy", "precision": "int8", "case": "mine-squad-offline-cpu-int8"}
    own = replace(REFERENCE, source="session")
    words = repeated(**quantised, rules="quick", sample_count=20, reference=own)
    assert words[1:3] == [
        "benchmarks/test_accuracy.py::test_accuracy[mine-squad-offline-cpu-fp32]",
        "benchmarks/test_accuracy.py::test_accuracy[mine-squad-offline-cpu-int8]",
    ]
    asked = [value for flag, value in itertools.pairwise(words) if flag == "--precision"]
    assert asked == ["int8", "fp32"]
    known = repeated(**quantised, rules="quick", sample_count=20, reference=REFERENCE)
    assert known.count("--precision") == 1


def test_a_line_that_repeats_a_case_quotes_the_users_own_paths() -> None:
    facts: dict[str, Any] = {"model_path": "/my models/it's.onnx"}
    facts |= {"user_conf": {"file": "/a b/user.conf"}, "dataset_path": "/my data/it.json"}
    facts["given"] = {"--tokenizer": "/their/tokenizer.json"}
    words = repeated(provenance=facts, target_latency_ms=0.1)
    for flag, value in (
        ("--model", "/my models/it's.onnx"),
        ("--dataset", "/my data/it.json"),
        ("--tokenizer", "/their/tokenizer.json"),
        ("--user-conf", "/a b/user.conf"),
        ("--target-latency-ms", "0.1"),
    ):
        assert words[words.index(flag) + 1] == value


def test_a_line_that_repeats_a_case_has_the_same_questions_left_out() -> None:
    whole, part = repeated(), repeated(questions_left_out=3)
    assert "int8" not in whole
    assert part == [word for word in whole if word not in ("--device", "cpu")] + [
        "--precision",
        "int8",
    ]
    assert repeated(questions_left_out=3, precision="int8").count("--precision") == 1


def test_a_line_that_repeats_a_case_has_negative_numbers_that_are_no_options() -> None:
    assert "--null-threshold=-1e-05" in repeated(mode="accuracy", null_threshold=-1e-05)


@pytest.mark.parametrize("rules", ["quick", "mlperf"])
def test_a_line_that_repeats_a_case_is_one_that_the_options_take(rules: str) -> None:
    words = repeated(rules=rules, buffer_size=10_833, min_duration_s=600.0, target_qps=1e-3)[2:]
    given = dict(zip(words[::2], words[1::2], strict=True))
    fields = {o.flag: (o.field, o.parse(given[o.flag])) for o in OPTIONS if o.flag in given}
    repeats = {option.field for option in OPTIONS if option.repeats}
    assert set(fields) == set(given)
    flags.build({f: [value] if f in repeats else value for f, value in fields.values()})
