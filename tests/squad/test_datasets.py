"""What is made of a data set: features, scores, and what an int8 model may be calibrated with."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loopback import LoopbackServer, entry, isolate, register
from shared_data import POCKET, SHARED, needs_dev_set, reading

from bertsquad.assets import registry
from bertsquad.assets.cache import cache_folder
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.progress import Step
from bertsquad.results import accuracy
from bertsquad.squad import datasets, features
from bertsquad.squad.datasets import DATASETS, Data
from bertsquad.squad.features import Features
from bertsquad.squad.questions import load

LIST = "bert_calibration_features.txt"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTSQUAD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def pocket(cache: None) -> Data:
    return datasets.load(DATASETS["pocket"])


Listed = Callable[[bytes], Path]


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Listed]:
    """Put a calibration list of some content into an otherwise empty data folder."""
    with LoopbackServer() as server:
        isolate(monkeypatch, tmp_path, server)

        def put(content: bytes) -> Path:
            register(monkeypatch, entry(LIST, content, server.url("/absent")))
            path = tmp_path / "data" / LIST
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            return path

        yield put


def test_every_data_set_and_its_calibration_file_are_in_the_registry() -> None:
    for known in DATASETS.values():
        assert {known.file, known.calibration} <= set(registry.entries())


def test_a_data_set_is_loaded_with_the_file_that_its_features_are_kept_in(pocket: Data) -> None:
    assert pocket.file == POCKET / "pocket-v1.1.json"
    assert pocket.checksum == registry.entries()["pocket/pocket-v1.1.json"].checksum
    assert len(pocket.features) == DATASETS["pocket"].samples
    assert pocket.features_file.is_relative_to(cache_folder())
    kept = features.load(pocket.features_file)
    assert kept.tokens.tolist() == pocket.features.tokens.tolist()


def test_a_data_set_whose_contexts_are_all_blank_is_named(tmp_path: Path) -> None:
    qa = {"id": "q", "question": "What?", "answers": [], "is_impossible": True}
    document = {"data": [{"paragraphs": [{"context": " \t ", "qas": [qa]}]}]}
    path = tmp_path / "blank.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(SuiteError, match=r"blank\.json gives a model nothing to read"):
        datasets.cached_features(load(path), reading(), path)


def windows_of(built: Features) -> set[tuple[int, ...]]:
    return {tuple(built.batch([window])[0][0].tolist()) for window in range(len(built))}


def test_pocket_is_calibrated_with_a_data_set_of_its_own(pocket: Data) -> None:
    chosen = datasets.calibration(DATASETS["pocket"], pocket)
    windows = chosen.windows
    assert chosen.features != str(pocket.features_file)
    found = features.load(Path(chosen.features))
    assert windows == tuple(range(len(found)))
    assert len(windows) >= 100
    assert f"{len(windows)} windows of calibration-v1.1.json" in chosen.note
    assert datasets.calibration(DATASETS["pocket"], pocket) == chosen
    assert windows_of(found).isdisjoint(windows_of(pocket.features))


@needs_dev_set
def test_squad_is_calibrated_with_mlperfs_windows_of_it(
    monkeypatch: pytest.MonkeyPatch, pocket: Data
) -> None:
    monkeypatch.setenv("BERTSQUAD_DATA", str(SHARED / "pooch-cache"))
    dev_set = datasets.load(DATASETS["squad"])
    chosen = datasets.calibration(DATASETS["squad"], dev_set)
    windows = chosen.windows
    assert chosen.features == str(dev_set.features_file)
    assert len(windows) == len(set(windows)) == 100
    assert set(windows) <= set(range(10_833))
    assert chosen.note == "MLPerf's 100 windows of squad"


def test_a_list_of_windows_is_read_line_by_line(listed: Listed, pocket: Data) -> None:
    listed(b"7\n0\n\n493\n")
    chosen = datasets.calibration(DATASETS["squad"], pocket)
    assert (chosen.features, chosen.windows) == (str(pocket.features_file), (7, 0, 493))
    assert "3 windows" in chosen.note


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"7\nseven\n", "should hold one window number a line"),
        (b"\xff\xfe\n", "should hold one window number a line"),
        (b"7\n494\n", "should hold numbers of the 494 windows"),
        (b"-1\n7\n", "should hold numbers of the 494 windows"),
        (b"\n", "should hold numbers of the 494 windows"),
    ],
)
def test_a_list_that_is_none_of_this_data_set_is_named(
    listed: Listed, pocket: Data, content: bytes, complaint: str
) -> None:
    path = listed(content)
    with pytest.raises(SuiteError) as caught:
        datasets.calibration(DATASETS["squad"], pocket)
    assert str(caught.value).startswith(f"{path} {complaint}")
    assert "\n" not in str(caught.value)


def test_a_list_that_cannot_be_had_counts_as_a_missing_data_set(
    listed: Listed, pocket: Data
) -> None:
    listed(b"7\n").unlink()
    with pytest.raises(Unavailable, match=LIST) as caught:
        datasets.calibration(DATASETS["squad"], pocket)
    assert caught.value.subject == "dataset"


def test_featurising_tells_how_far_it_is_and_is_done_once(
    pocket: Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path))
    told: list[Step] = []
    datasets.load(DATASETS["pocket"], show=told.append)
    questions = len(pocket.dataset.questions)
    assert told[0] == Step("featurising")
    assert told[1:] == [
        Step("featurising", done, questions, "questions") for done in range(questions)
    ]
    told.clear()
    datasets.load(DATASETS["pocket"], show=told.append)
    assert told == []


def test_a_log_of_other_samples_is_not_scored(pocket: Data, tmp_path: Path) -> None:
    (tmp_path / "mlperf_log_accuracy.json").write_text("[\n]\n", encoding="utf-8")
    with pytest.raises(SuiteError, match="holds 0 samples where 20 were run"):
        accuracy.score_log(pocket, tmp_path, 20)
