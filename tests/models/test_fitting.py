"""The reading that fits a model, and mismatches that are told before anything runs."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import exported
import pytest
import tiny

from bertsquad.errors import SuiteError
from bertsquad.models.fitting import Fitted, fit
from bertsquad.models.reads import AS_MLPERF, Layout
from bertsquad.models.zoo import MODELS, find
from bertsquad.squad import tokeniser_files
from bertsquad.squad.hugging_face import HuggingFaceReading
from bertsquad.squad.mlperf import mlperf_reading

FAMILIES = Path(__file__).resolve().parents[1] / "families"
OPTIMUM = FAMILIES / "optimum"


def copied(tmp_path: Path, family: str) -> Path:
    return Path(shutil.copytree(OPTIMUM / family, tmp_path / family))


def fitted(path: Path, max_length: int | None = None, doc_stride: int | None = None) -> Fitted:
    return fit(find(str(path)), max_length, doc_stride)


def test_the_suites_own_models_are_read_by_mlperfs_rules() -> None:
    for model in MODELS.values():
        assert fit(model) == Fitted(mlperf_reading(), AS_MLPERF)


def test_a_folders_tokeniser_and_config_say_how_windows_are_made_and_laid_out() -> None:
    found = fitted(OPTIMUM / "roberta")
    assert isinstance(found.reading, HuggingFaceReading)
    assert found.reads.layout == Layout(padding_id=1, first_position=2)
    assert found.reads.longest == 384
    assert not found.asks
    assert found.facts is not None
    assert found.facts["file"] == str(OPTIMUM / "roberta" / "tokenizer.json")
    assert (found.facts["max_length"], found.facts["doc_stride"]) == (384, 128)
    assert fitted(OPTIMUM / "bert_uncased", 96, 16).reads.longest == 96


def test_windows_are_no_longer_than_the_model_takes(tmp_path: Path) -> None:
    folder = copied(tmp_path, "bert_cased")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 128}))
    assert fitted(folder).reads.longest == 128
    with pytest.raises(SuiteError, match="give 128 or fewer"):
        fitted(folder, 129)
    (folder / "config.json").unlink()
    with pytest.raises(SuiteError, match="give 512 or fewer"):
        fitted(folder, 513)


def cased_with_the_uncased_vocabulary(folder: Path) -> Path:
    path = copied(folder, "bert_cased")
    for name in tokeniser_files.FILES:
        (path / name).unlink(missing_ok=True)
    return path / "model.onnx"


def roberta_with_wordpiece(folder: Path) -> Path:
    path = copied(folder, "roberta")
    for name in ("vocab.json", "merges.txt"):
        (path / name).unlink()
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(OPTIMUM / "bert_cased" / name, path / name)
    return path


def fewer_rows_than_ids(folder: Path) -> Path:
    path = copied(folder, "bert_cased")
    shutil.copy(OPTIMUM / "albert" / "model.onnx", path / "model.onnx")
    (path / "config.json").unlink()
    return path


def uncased_with_a_cased_vocabulary_of_its_size(folder: Path) -> Path:
    path = copied(folder, "bert_uncased")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"pad_token_id": 3}))
    return path


def a_config_of_another_vocabulary_where_the_graph_hides_its_rows(folder: Path) -> Path:
    (folder / "config.json").write_text('{"model_type": "bert", "vocab_size": 28996}')
    return tiny.model(folder / "a.onnx")


MISMATCHES: dict[Callable[[Path], Path], str] = {
    cased_with_the_uncased_vocabulary: "BERT's uncased vocabulary",
    roberta_with_wordpiece: "so it is another model's",
    fewer_rows_than_ids: "so it is another model's",
    a_config_of_another_vocabulary_where_the_graph_hides_its_rows: "has embeddings of 28,996 ids",
    uncased_with_a_cased_vocabulary_of_its_size: "has the id 3 for padding in its config.json",
}


@pytest.mark.parametrize("make", MISMATCHES, ids=lambda make: make.__name__)
def test_a_tokeniser_of_another_model_is_one_sentence_with_what_to_give(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    with pytest.raises(SuiteError) as caught:
        fitted(make(tmp_path))
    assert MISMATCHES[make] in str(caught.value)
    assert str(caught.value).endswith("give the model's own tokeniser as --tokenizer DIR")


def test_a_model_without_a_tokeniser_that_reads_fewer_tokens_is_told_what_that_takes(
    tmp_path: Path,
) -> None:
    path = exported.model(tmp_path / "short.onnx", rows=30_522, length=128)
    with pytest.raises(SuiteError, match="give --max-length 128, and the model's own tokeniser"):
        fitted(path)


@pytest.mark.parametrize(
    ("family", "left", "said"),
    [
        ("roberta", ["vocab.json"], "lacks merges.txt, without which its tokeniser is not whole"),
        ("roberta", ["merges.txt"], "lacks vocab.json, without which its tokeniser is not whole"),
        ("roberta", ["tokenizer_config.json"], "give one with --tokenizer"),
        ("xlm_roberta", ["sentencepiece.bpe.model"], "is SentencePiece's: make a tokenizer.json"),
    ],
)
def test_a_part_of_a_tokeniser_is_never_replaced_by_berts_vocabulary(
    family: str, left: list[str], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "part"
    path.mkdir()
    for name in ("model.onnx", "config.json", *left):
        shutil.copy(OPTIMUM / family / name, path / name)
    with pytest.raises(SuiteError, match=re.escape(said)):
        fitted(path)


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
def test_a_config_that_is_none_is_named(content: str, tmp_path: Path) -> None:
    folder = copied(tmp_path, "albert")
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(SuiteError, match=r"config\.json"):
        fitted(folder)
