"""A model of the user's own is found with what lies beside it, in every layout that people have."""

import shutil
from pathlib import Path

import pytest
import tiny

from bertsquad.assets import registry
from bertsquad.errors import SuiteError
from bertsquad.models.own_model import look
from bertsquad.models.zoo import find

VOCABULARY = registry.path_of("pocket/vocab.txt")


def put(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def hub_cache(root: Path) -> Path:
    """A repository as the hub's cache holds it: links to blobs; the folder of its revision."""
    repository = root / "models--acme--Quick-QA"
    revision = repository / "snapshots" / "0a1b2c"
    (revision / "onnx").mkdir(parents=True)
    (repository / "blobs").mkdir()
    for index, name in enumerate(("config.json", "tokenizer.json", "onnx/model.onnx")):
        (repository / "blobs" / f"{index:040x}").touch()
        up = "../" * (2 + name.count("/"))
        (revision / name).symlink_to(f"{up}blobs/{index:040x}")
    return revision


def test_a_folder_as_optimum_leaves_it_gives_model_tokeniser_config_and_name(
    tmp_path: Path,
) -> None:
    folder = put(tmp_path / "My DistilBERT", "model.onnx", "tokenizer.json", "config.json")
    found = look(folder)
    assert found.file == folder / "model.onnx"
    assert found.tokeniser == folder
    assert found.config == folder / "config.json"
    assert found.name == "my_distilbert"
    assert look(folder / "model.onnx") == found


@pytest.mark.parametrize("way", ["", "onnx", "onnx/model.onnx"])
def test_a_repository_in_the_hubs_cache_is_found_through_its_links(
    tmp_path: Path, way: str
) -> None:
    revision = hub_cache(tmp_path)
    found = look(revision / way)
    assert found.file == revision / "onnx" / "model.onnx"
    assert found.tokeniser == revision
    assert found.config == revision / "config.json"
    assert found.name == "quick-qa"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("model.onnx", "roberta"),
        ("model_quantized.onnx", "roberta_quantized"),
        ("model-int8.onnx", "roberta-int8"),
        ("modelled.onnx", "modelled"),
        ("Fine Tuned.onnx", "fine_tuned"),
    ],
)
def test_only_a_file_called_model_is_named_after_its_folder(
    tmp_path: Path, file: str, name: str
) -> None:
    folder = put(tmp_path / "roberta", file, "vocab.json", "merges.txt")
    assert look(folder / file).name == name


def test_a_folder_called_onnx_that_holds_a_tokeniser_gives_its_own_name(tmp_path: Path) -> None:
    folder = put(tmp_path / "onnx", "model.onnx", "tokenizer.json")
    assert (look(folder).name, look(folder).tokeniser) == ("onnx", folder)


def test_a_file_without_a_tokeniser_keeps_its_stem_and_berts_vocabulary(tmp_path: Path) -> None:
    folder = put(tmp_path / "roberta", "model.onnx", "config.json")
    found = look(folder / "model.onnx")
    assert (found.name, found.tokeniser) == ("model", None)
    assert found.config == folder / "config.json"


def test_mlperfs_vocabulary_alone_means_mlperfs_way_of_reading(tmp_path: Path) -> None:
    folder = put(tmp_path / "bert", "model.onnx")
    shutil.copy(VOCABULARY, folder / "vocab.txt")
    assert look(folder).tokeniser is None
    put(folder, "tokenizer_config.json")
    assert look(folder).tokeniser == folder
    (folder / "tokenizer_config.json").unlink()
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    assert look(folder).tokeniser == folder


def test_sentencepiece_alone_is_not_replaced_by_berts_vocabulary(tmp_path: Path) -> None:
    assert look(put(tmp_path, "model.onnx", "spiece.model")).tokeniser == tmp_path


def test_what_is_a_link_to_nothing_beside_a_model_is_not_replaced(tmp_path: Path) -> None:
    for name in ("tokenizer.json", "config.json"):
        (tmp_path / name).symlink_to("../../blobs/0a1b2c")
    found = look(put(tmp_path, "model.onnx"))
    assert (found.tokeniser, found.config) == (tmp_path, tmp_path / "config.json")


def test_a_folder_of_several_models_lists_them(tmp_path: Path) -> None:
    folder = put(tmp_path / "bert", "onnx/model.onnx", "onnx/model_fp16.onnx", "tokenizer.json")
    with pytest.raises(SuiteError) as caught:
        look(folder)
    assert "onnx/model.onnx, onnx/model_fp16.onnx" in str(caught.value)
    assert "one of these files" in str(caught.value)
    assert look(folder / "onnx" / "model_fp16.onnx").name == "bert_fp16"


def test_a_folder_without_a_model_says_what_was_expected(tmp_path: Path) -> None:
    folder = put(tmp_path / "bert", "tokenizer.json", "pytorch_model.bin")
    with pytest.raises(SuiteError, match=r"optimum-cli export onnx"):
        look(folder)


def test_a_link_to_nothing_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").symlink_to(tmp_path / "gone")
    for way in (tmp_path / "model.onnx", tmp_path):
        with pytest.raises(SuiteError) as caught:
            look(way)
        assert str(caught.value) == f"there is no file {tmp_path / 'model.onnx'}"


def test_a_hidden_file_is_no_model_of_a_folder(tmp_path: Path) -> None:
    put(tmp_path, "model.onnx", "._model.onnx", "tokenizer.json")
    assert look(tmp_path).file == tmp_path / "model.onnx"


def test_a_folder_called_as_a_known_model_is_refused(tmp_path: Path) -> None:
    folder = put(tmp_path / "minilm", "model.onnx", "tokenizer.json")
    with pytest.raises(SuiteError, match="name of another model"):
        find(str(folder))


@pytest.mark.parametrize(("quantised", "precision"), [(False, "fp32"), (True, "int8")])
def test_the_precision_of_ones_own_model_is_the_one_it_is_stored_in(
    tmp_path: Path, quantised: bool, precision: str
) -> None:
    assert find(str(tiny.model(tmp_path / "a.onnx", quantised=quantised))).precision == precision


def test_what_is_no_model_is_told_when_it_is_run(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_text("no model")
    assert find(str(tmp_path / "a.onnx")).precision == "fp32"
