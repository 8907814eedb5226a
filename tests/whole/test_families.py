"""Models of seven families as users have them, through the whole suite.

tests/families/README.md says what they are. Their answers are held against a reference of a few
lines: ONNX Runtime and the library `tokenizers` asked directly, and the rule of Hugging Face's
`run_qa`.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from pytest_sessions import PytestSession, run_pytest, run_pytest_sessions
from shared_data import PROJECT
from tokenizers import Tokenizer

FAMILIES = PROJECT / "tests" / "families"
NAMES = sorted(path.name for path in (FAMILIES / "optimum").iterdir())
QUESTIONS = PROJECT / "tests" / "golden" / "questions.json"
COMMAND = f"--dataset {QUESTIONS} --dataset-size all --device cpu"
FAST = "--min-duration-s 0.2 --target-qps 200 --target-latency-ms 5"

Session = Callable[..., PytestSession]


def reference(model: Path, length: int, stride: int, threshold: float) -> dict[str, str]:
    """The answer to each question, by its id, as run_qa chooses it."""
    tokenizer = Tokenizer.from_file(str(model.parent / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(length, stride=stride, strategy="only_second")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    wanted = [value.name for value in session.get_inputs()]
    found = {}
    for article in json.loads(QUESTIONS.read_bytes())["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                context = paragraph["context"]
                first = tokenizer.encode(qa["question"].lstrip(), context)
                spans, nulls = [], []
                for window in [first, *first.overflowing]:
                    arrays = {
                        "input_ids": window.ids,
                        "attention_mask": window.attention_mask,
                        "token_type_ids": window.type_ids,
                    }
                    feed = {name: np.array([arrays[name]]) for name in wanted}
                    starts, ends = (
                        row[0] for row in session.run(["start_logits", "end_logits"], feed)
                    )
                    nulls.append(float(starts[0]) + float(ends[0]))
                    for a in np.argsort(-starts)[:20]:
                        for b in np.argsort(-ends)[:20]:
                            inside = window.sequence_ids[a] == window.sequence_ids[b] == 1
                            if inside and 0 <= b - a < 30:
                                text = context[window.offsets[a][0] : window.offsets[b][1]]
                                spans.append((float(starts[a]) + float(ends[b]), text))
                # Of the best 20 run_qa takes the first with a text.
                best = sorted(spans, key=lambda span: span[0], reverse=True)[:20]
                score, text = next((span for span in best if span[1]), (0.0, "empty"))
                found[qa["id"]] = "" if min(nulls) - score > threshold else text
    return found


def answers(pytest_session: PytestSession, family: str, precision: str = "fp32") -> dict[str, str]:
    """What the suite answered."""
    folder = f"accuracy-{family}-questions-offline-cpu-{precision}"
    file = pytest_session.folder / "results" / folder / "predictions.json"
    found: dict[str, str] = json.loads(file.read_bytes())
    return found


def name(mode: str, family: str, scenario: str = "offline") -> str:
    return f"test_{mode}[{family}-questions-{scenario}-cpu-fp32]"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> PytestSession:
    """All families' folders, as Optimum left them, in one pytest session."""
    models = (f"--model={FAMILIES / 'optimum' / family}" for family in NAMES)
    return run_pytest(
        tmp_path_factory.mktemp("families") / "folders",
        *f"{COMMAND} --precision fp32 {FAST}".split(),
        *models,
        "-k=offline and (accuracy or performance)",
    )


@pytest.mark.parametrize("family", NAMES)
def test_a_folder_of_optimum_s_is_run_and_answers_as_run_qa_does(
    folders: PytestSession, family: str
) -> None:
    for mode in ("accuracy", "performance"):
        case = folders.cases[name(mode, family)]
        assert case.outcome == "passed", case.message
    file = FAMILIES / "optimum" / family / "model.onnx"
    given = answers(folders, family)
    assert given == reference(file, 384, 128, 0)
    assert len(set(given.values())) > 10
    assert folders.result(name("performance", family))["qps"] > 0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> PytestSession:
    """All families' files, as PyTorch's own exporter left them, with windows of another size."""
    models = (f"--model={FAMILIES / 'torch' / family / 'model.onnx'}" for family in NAMES)
    return run_pytest(
        tmp_path_factory.mktemp("families") / "files",
        *f"{COMMAND} --precision fp32 {FAST}".split(),
        *"--max-length 96 --doc-stride 32 --null-threshold -3".split(),
        *models,
        "-k=accuracy and offline or performance",
    )


@pytest.mark.slow
@pytest.mark.parametrize("family", NAMES)
def test_a_file_of_pytorch_s_is_run_in_every_scenario_and_answers_as_run_qa_does(
    files: PytestSession, family: str
) -> None:
    modes = [("accuracy", "offline")]
    modes += [("performance", s) for s in ("offline", "singlestream", "multistream", "server")]
    for mode, scenario in modes:
        case = files.cases[name(mode, family, scenario)]
        assert case.outcome == "passed", case.message
    file = FAMILIES / "torch" / family / "model.onnx"
    assert answers(files, family) == reference(file, 96, 32, -3)


@pytest.mark.slow
def test_a_file_that_is_fused_for_onnx_runtime_answers_as_the_plain_one(tmp_path: Path) -> None:
    folder = FAMILIES / "others" / "roberta_fused"
    command = f"{COMMAND} --precision fp32 --model {folder} -k accuracy"
    ran = run_pytest(tmp_path / "run", *command.split())
    assert set(ran.cases) == {
        f"test_accuracy[roberta_fused-questions-{scenario}-cpu-fp32]"
        for scenario in ("offline", "singlestream", "multistream", "server")
    }
    assert {case.outcome for case in ran.cases.values()} == {"passed"}
    plain = FAMILIES / "optimum" / "roberta" / "model.onnx"
    assert answers(ran, "roberta_fused") == reference(plain, 384, 128, 0)


@pytest.mark.slow
def test_a_file_that_optimum_quantised_runs_as_int8(tmp_path: Path) -> None:
    """Its answers depend on what shares a batch: it is quantised for each batch anew."""
    folder = FAMILIES / "others" / "distilbert_quantised"
    command = f"{COMMAND} --model {folder} {FAST}"
    ran = run_pytest(tmp_path / "run", *command.split(), "-k", "offline and not compliance")
    name = "distilbert_quantised_quantized-questions-offline-cpu-int8"
    for mode in ("accuracy", "performance"):
        assert ran.cases[f"test_{mode}[{name}]"].outcome == "passed"
    result = ran.result(f"accuracy[{name}]")
    assert (result["precision"], result["questions_left_out"]) == ("int8", 0)
    assert answers(ran, "distilbert_quantised_quantized", "int8")


#: A model, whose tokeniser it is given, and what the refusal must name.
MISMATCHES = (
    ("bert_cased", "bert_uncased", "500 ids"),
    ("roberta", "bert_uncased", "500 ids"),
    ("bert_uncased", "roberta", "the id 0 for padding"),
    ("xlm_roberta", "deberta_v2", "the id 1 for padding"),
    ("deberta_v2", "bert_cased", "460 ids"),
    ("distilbert", None, "30,522 ids"),
)


def test_another_model_s_tokeniser_is_refused_before_anything_runs(tmp_path: Path) -> None:
    commands = []
    for model, other, _ in MISMATCHES:
        file = FAMILIES / "optimum" / model / "model.onnx"
        given = [f"--tokenizer={FAMILIES / 'optimum' / other}"] if other else []
        if other is None:  # no tokeniser lies beside it
            file = Path(shutil.copy(file, tmp_path / "lonely.onnx"))
        commands.append([*COMMAND.split(), f"--model={file}", *given, "-k=offline and accuracy"])
    for ran, (model, other, named) in zip(
        run_pytest_sessions(tmp_path / "runs", commands), MISMATCHES, strict=True
    ):
        said = " ".join(line for line in ran.out.splitlines() if "--tokenizer DIR" in line)
        assert ran.code == 1, (model, other, ran.out)
        assert named in said, (model, other, ran.out)
        assert "Traceback" not in ran.out + ran.err
