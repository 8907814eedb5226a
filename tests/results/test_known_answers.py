"""The answers that are kept are those of the models, to the very questions."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from shared_data import DEV_SET_FILE, POCKET_FILE, dev_set, needs_dev_set, pocket, reading

from bertsquad.assets import registry
from bertsquad.models.zoo import MODELS
from bertsquad.results import known_answers
from bertsquad.results.reference import BUNDLED, KNOWN
from bertsquad.squad import datasets, questions
from bertsquad.squad.datasets import DATASETS, Data

KEPT = [(model, dataset) for model in MODELS for dataset in MODELS[model].answers]
MINILM = MODELS["minilm"]


def data_of(file: Path) -> Data:
    """The data set of a file of one's own, without its windows."""
    entry = datasets.find(str(file))
    dataset = questions.load(file)
    return Data(dataset, None, reading(), file, file, datasets.locate(entry)[1])  # type: ignore[arg-type]


def copy_of(file: Path, folder: Path) -> Path:
    return Path(shutil.copy(file, folder / "copy.json"))


@pytest.mark.parametrize(("model", "dataset"), KEPT)
def test_what_is_kept_is_of_the_model_and_the_data_set_and_has_their_f1(
    model: str, dataset: str
) -> None:
    found, files = known_answers.read(MODELS[model].answers[dataset]), registry.entries()
    assert (found.model, found.dataset) == (model, dataset)
    assert found.model_checksum == files[str(MODELS[model].file)].digest
    assert found.dataset_checksum == files[str(DATASETS[dataset].file)].checksum
    assert found.whole_f1 == MODELS[model].reference_f1[dataset]
    assert all(0 <= one <= 1 for one in found.f1)


def test_every_data_set_that_the_suite_knows_has_answers_of_some_model() -> None:
    assert {dataset for _, dataset in KEPT} == set(DATASETS)


def test_a_data_set_is_known_by_its_content_whatever_it_is_called(tmp_path: Path) -> None:
    file = copy_of(POCKET_FILE, tmp_path)
    found = known_answers.find(MINILM, data_of(file))
    assert found is not None
    assert (found.source, found.model) == (KNOWN, "minilm")
    assert list(found.f1) == [one.id for one in pocket().questions]
    document = json.loads(POCKET_FILE.read_bytes())
    document["data"][0]["title"] += " "
    file.write_text(json.dumps(document))
    assert known_answers.find(MINILM, data_of(file)) is None


def test_questions_left_out_leave_no_whole_to_compare_with(tmp_path: Path) -> None:
    data = data_of(copy_of(POCKET_FILE, tmp_path))
    assert known_answers.find(MINILM, replace(data, left_out=data.dataset)) is None


def test_another_model_gets_those_of_minilm_also_if_it_goes_by_that_name(tmp_path: Path) -> None:
    data = data_of(copy_of(POCKET_FILE, tmp_path))
    other = replace(MINILM, name="mine", file=None, path=tmp_path / "mine.onnx")
    for model in (other, replace(other, name="minilm"), MODELS["bert_large"]):
        found = known_answers.find(model, data)
        assert found is not None
        assert (found.source, found.model) == (BUNDLED, "minilm")


@needs_dev_set
def test_squad_has_an_answer_for_each_question(tmp_path: Path) -> None:
    found = known_answers.find(MINILM, data_of(copy_of(DEV_SET_FILE, tmp_path)))
    assert found is not None
    assert len(found.f1) == len(dev_set().questions) == 10_570
