"""What is made of a data set: features, scores, and what an int8 model may be calibrated with."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loopback import LoopbackServer, entry, isolate, register
from shared_data import POCKET, SHARED, needs_dev_set, reading

from bertsquad.assets import registry
from bertsquad.assets.cache import cache_folder
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.models.fitting import fit
from bertsquad.models.zoo import find
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


def own(folder: Path, count: int, name: str = "mine.json") -> Path:
    """A file of the user's own, with so many questions."""
    rows = [
        {"id": n, "context": f"Tree {n} is old.", "question": f"What is old, {n}?"}
        | {"answers": {"text": [f"Tree {n}"], "answer_start": [0]}}
        for n in range(count)
    ]
    path = folder / name
    path.write_text(json.dumps(rows))
    return path


def test_a_file_of_ones_own_is_named_by_its_stem_and_known_by_its_checksum(tmp_path: Path) -> None:
    entry = datasets.find(str(own(tmp_path, 3, "My Questions.json")))
    assert (entry.name, entry.file, entry.calibration) == ("my_questions", None, None)
    data = datasets.load(entry)
    assert data.file == entry.path
    digest = hashlib.sha256((tmp_path / "My Questions.json").read_bytes()).hexdigest()
    assert data.checksum == f"sha256:{digest}"
    assert len(data.features) == 3
    assert data.left_out is None


@pytest.mark.parametrize(
    "name", ["squad.json", "Pocket.jsonl", "Squad.JSON", "mine.csv", "gone.json"]
)
def test_a_file_that_can_be_no_data_set_is_refused(name: str, tmp_path: Path) -> None:
    if not name.startswith("gone"):
        own(tmp_path, 2, name)
    with pytest.raises(SuiteError, match=r"rename the file|expected squad, pocket or a file"):
        datasets.find(str(tmp_path / name))


@pytest.mark.parametrize(("count", "left_out"), [(2, 1), (10, 1), (50, 5), (2000, 100)])
def test_a_part_of_ones_own_questions_is_left_out_to_calibrate_with(
    count: int, left_out: int, tmp_path: Path
) -> None:
    entry = datasets.find(str(own(tmp_path, count)))
    data = datasets.load(entry, splits=True)
    assert data.left_out is not None
    rest, part = ({one.id for one in of.questions} for of in (data.dataset, data.left_out))
    assert (len(rest), len(part)) == (count - left_out, left_out)
    assert rest | part == {str(n) for n in range(count)}
    again = datasets.load(entry, splits=True)
    assert again.left_out == data.left_out
    chosen = datasets.calibration(entry, data)
    assert len(chosen.windows) == left_out
    calibrating = features.load(Path(chosen.features))
    assert len(calibrating) == left_out
    assert len(datasets.load(entry).features) == count


def test_questions_that_changed_since_they_were_read_do_not_calibrate(tmp_path: Path) -> None:
    entry = datasets.find(str(own(tmp_path, 10)))
    data = datasets.load(entry, splits=True)
    own(tmp_path, 30)
    with pytest.raises(SuiteError, match=r"mine.json was changed since it was read"):
        datasets.calibration(entry, data)
    data = datasets.load(entry, splits=True)  # not with what is cached of the earlier ones
    assert len(datasets.calibration(entry, data).windows) == 3


def test_questions_about_nothing_are_not_left_out_to_calibrate_with(tmp_path: Path) -> None:
    path = own(tmp_path, 10)
    rows = json.loads(path.read_bytes())
    for row in rows:
        if row["id"] not in (3, 8):
            row |= {"context": "  ", "answers": {"text": [], "answer_start": []}}
    path.write_text(json.dumps(rows))
    entry = datasets.find(str(path))
    data = datasets.load(entry, splits=True)
    assert data.left_out is not None
    assert {one.id for one in data.left_out.questions} <= {"3", "8"}
    assert len(datasets.calibration(entry, data).windows) == len(data.features) == 1
    path.write_text(json.dumps([row for row in rows if row["id"] != 3]))
    with pytest.raises(SuiteError, match="fewer than two questions about a context that isn't bl"):
        datasets.load(entry, splits=True)


def test_one_question_is_too_few_to_leave_one_out(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="--calibration"):
        datasets.load(datasets.find(str(own(tmp_path, 1))), splits=True)


def test_a_calibration_file_of_ones_own_leaves_all_questions_in(tmp_path: Path) -> None:
    entry = datasets.find(str(own(tmp_path, 5)))
    data = datasets.load(entry)
    with pytest.raises(SuiteError, match="--calibration"):
        datasets.calibration(entry, data)
    chosen = datasets.calibration(entry, data, own(tmp_path, 4, "others.json"))
    assert (len(chosen.windows), chosen.note) == (4, "the 4 windows of others.json")


@pytest.mark.slow
@needs_dev_set
def test_mlperfs_calibration_questions_serve_other_tokenisers_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BERTSQUAD_DATA", str(SHARED / "pooch-cache"))
    folder = Path(__file__).resolve().parents[1] / "families" / "optimum" / "roberta"
    theirs = datasets.load(DATASETS["squad"], fit(find(str(folder))).reading)
    chosen = datasets.calibration(DATASETS["squad"], theirs)
    mlperf = datasets.load(DATASETS["squad"])
    listed = datasets.calibration(DATASETS["squad"], mlperf)
    wanted = set(mlperf.features.question[list(listed.windows)].tolist())
    assert set(theirs.features.question[list(chosen.windows)].tolist()) == wanted
