"""The data sets that the suite knows, and the windows that are made of them."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bertsquad.assets import cache, registry
from bertsquad.assets.fingerprint import fingerprint
from bertsquad.errors import SuiteError
from bertsquad.files import unreadable, user_path
from bertsquad.progress import Show, unseen
from bertsquad.rules import SAMPLES
from bertsquad.squad import features, questions
from bertsquad.squad.features import Features
from bertsquad.squad.mlperf import mlperf_reading
from bertsquad.squad.questions import Dataset
from bertsquad.squad.reading import Reading

#: What the name of a file of the user's own questions ends in.
SUFFIXES = (".json", ".jsonl", ".ndjson")
#: How many of the user's own questions calibrate at most, as many as MLPerf's list has windows, and
#: what they are drawn by.
CALIBRATION_QUESTIONS, SPLIT_SEED = 100, 0
#: As in SQuAD's dev set; for estimates alone.
_BYTES_A_QUESTION = 460


@dataclass(frozen=True)
class DatasetEntry:
    """A data set: one that the suite knows with its `file` in the registry, or the user's own.

    Where `file` is None, `path` says where the user's file is. `quick_samples` is the number of
    windows that `--rules quick` runs, None for all of them; `samples` is the number of all windows
    (for estimates; the features say what is really there).
    An int8 model is calibrated with `calibration`: a file of window numbers of this data set
    (.txt), or another data set (.json); None for the user's own, of which a part must do.
    """

    name: str
    file: str | None
    calibration: str | None
    quick_samples: int | None
    samples: int
    description: str
    path: Path | None = None


DATASETS = {
    entry.name: entry
    for entry in (
        DatasetEntry(
            "squad",
            "dev-v1.1.json",
            "bert_calibration_features.txt",
            20,
            SAMPLES,
            "SQuAD v1.1 dev set, 10,570 questions",
        ),
        DatasetEntry(
            "pocket",
            "pocket/pocket-v1.1.json",
            "pocket/calibration-v1.1.json",
            None,
            494,
            "470 questions, bundled",
        ),
    )
}


@dataclass(frozen=True)
class Data:
    """A data set with its file and checksum, its features and the file that they are cached in.

    `left_out` are the questions of the file that models are calibrated with; `dataset` lacks them.
    """

    dataset: Dataset
    features: Features
    reading: Reading
    features_file: Path
    file: Path
    checksum: str
    left_out: Dataset | None = None


def find(name: str) -> DatasetEntry:
    """The data set called `name`, or the user's own where `name` is the path of a file."""
    if name in DATASETS:
        return DATASETS[name]
    try:
        path = own_file(name)
        size = path.stat().st_size
    except SuiteError as error:
        raise SuiteError(f"expected {', '.join(DATASETS)} or a file of your own: {error}") from None
    stem = re.sub(r"[^a-z0-9_.-]+", "_", path.stem.lower())
    if stem in DATASETS:
        raise SuiteError(f"{name} has the name of another data set, {stem}: rename the file")
    return DatasetEntry(
        stem,
        None,
        None,
        DATASETS["squad"].quick_samples,
        max(1, size // _BYTES_A_QUESTION),
        f"your own questions, {path}",
        path,
    )


def locate(entry: DatasetEntry, show: Show = unseen) -> tuple[Path, str]:
    """A data set's file, downloaded if need be, and its checksum with its algorithm before it."""
    if entry.file is not None:
        file = registry.fetch(entry.file, "dataset", show)
        return file, registry.entries()[entry.file].checksum
    assert entry.path is not None  # it has one of the two
    try:
        found = fingerprint(entry.path)
    except OSError as error:
        raise unreadable(entry.path, error) from error
    return entry.path, f"{found.algorithm}:{found.digest}"


def own_file(text: str) -> Path:
    """The path of a file of questions that a user typed; SuiteError if it can't be one."""
    path = user_path(text)
    if path.suffix.lower() not in SUFFIXES:
        raise SuiteError(
            f"expected the path of a file of questions ({', '.join(SUFFIXES)}; the library "
            f"datasets makes one of other forms with to_json), got {text!r}"
        )
    if not path.is_file():
        raise SuiteError(f"there is no file {text}")
    return path


def load(
    entry: DatasetEntry,
    reading: Reading | None = None,
    splits: bool = False,
    show: Show = unseen,
) -> Data:
    """Fetch a data set and build its features, or take both from their caches.

    MLPerf's reading makes them where no other is given. A part of the user's own questions is left
    out for calibration where it `splits`.
    """
    file, checksum = locate(entry, show)
    dataset, left_out = questions.load(file), None
    reading = reading or mlperf_reading()
    if entry.path is not None and locate(entry)[1] != checksum:
        raise SuiteError(f"{file} was changed while it was read: run again when it is done")
    if splits and entry.calibration is None:
        dataset, left_out = split(dataset, file)
    part = "" if left_out is None else f"without {len(left_out.questions)}"
    built, path = cached_features(dataset, reading, file, show, part)
    return Data(dataset, built, reading, path, file, checksum, left_out)


def split(dataset: Dataset, file: Path) -> tuple[Dataset, Dataset]:
    """The questions to run, and those to calibrate with: a tenth, at most 100, drawn by a seed."""
    count = len(dataset.questions)
    order = np.random.default_rng(SPLIT_SEED).permutation(count).tolist()
    # Nothing can be calibrated with a blank context, nor be run on such alone.
    told = [n for n in order if dataset.contexts[dataset.questions[n].context].strip()]
    if len(told) < 2:
        raise SuiteError(
            f"{file} has fewer than two questions about a context that isn't blank, so that none "
            "can be left out for calibration: give others with --calibration"
        )
    size = min(CALIBRATION_QUESTIONS, max(1, count // 10), len(told) - 1)
    drawn = set(told[:size])
    rest, chosen = (
        tuple(one for index, one in enumerate(dataset.questions) if (index in drawn) is inside)
        for inside in (False, True)
    )
    return replace(dataset, questions=rest), replace(dataset, questions=chosen)


@dataclass(frozen=True)
class CalibrationSet:
    """What a model is quantised with: these `windows` of the features in a file; a note for people.

    The path is text, so that it is JSON.
    """

    features: str
    windows: tuple[int, ...]
    note: str


def calibration(
    entry: DatasetEntry, data: Data, own: Path | None = None, show: Show = unseen
) -> CalibrationSet:
    """What an int8 model for a data set is calibrated with; `own` is the user's own file."""
    if data.left_out is not None:
        if locate(entry)[1] != data.checksum:  # by which what is made of it is cached
            raise SuiteError(f"{data.file} was changed since it was read: run again")
        part = f"the {len(data.left_out.questions)} questions left out of {entry.name}"
        built, path = cached_features(data.left_out, data.reading, data.file, show, "left out")
        return CalibrationSet(str(path), tuple(range(len(built))), part)
    if entry.calibration is not None:
        file = registry.fetch(entry.calibration, "dataset", show)
    elif own is not None:
        file = own
    else:
        raise SuiteError(f"{entry.name} has no calibration data: give some with --calibration FILE")
    if file.suffix == ".txt":
        return _listed(entry, data, file, show)
    built, path = cached_features(questions.load(file), data.reading, file, show)
    note = f"the {len(built)} windows of {file.name}"
    return CalibrationSet(str(path), tuple(range(len(built))), note)


def _listed(entry: DatasetEntry, data: Data, file: Path, show: Show) -> CalibrationSet:
    """MLPerf's windows of the dev set, which its rules allow: their numbers stand in `file`.

    Where another reading made the windows, all those of the same questions are taken.
    """
    try:
        windows = tuple(int(line) for line in file.read_text(encoding="utf-8").split())
    except OSError as error:
        raise unreadable(file, error) from error
    except ValueError as error:
        raise SuiteError(f"{file} should hold one window number a line: {error}") from error
    listed = data.features
    if data.reading is not mlperf_reading():
        listed, _ = cached_features(data.dataset, mlperf_reading(), data.file, show)
    if not windows or not 0 <= min(windows) <= max(windows) < len(listed):
        raise SuiteError(f"{file} should hold numbers of the {len(listed)} windows")
    note = f"MLPerf's {len(windows)} windows of {entry.name}"
    if listed is not data.features:
        shown = np.isin(data.features.question, listed.question[list(windows)])
        windows = tuple(np.flatnonzero(shown).tolist())
        note = f"{len(windows)} windows of {entry.name}, of the questions of {note}"
    return CalibrationSet(str(data.features_file), windows, note)


def cached_features(
    dataset: Dataset,
    reading: Reading,
    dataset_file: Path,
    show: Show = unseen,
    part: str = "",
) -> tuple[Features, Path]:
    """The features, and the file of the cache that they are kept in.

    `part` says which of the file's questions the data set has, where that aren't all. Raises
    SuiteError where the data set has no window, or the cache can't be written.
    """

    def build(path: Path) -> Features:
        built = reading.build(dataset, show)
        if not len(built):
            raise SuiteError(
                f"{dataset_file} gives a model nothing to read, since all its contexts are blank: "
                "give a file with contexts"
            )
        features.save(built, path)
        return built

    key = features.cache_key(dataset_file, f"{reading.key} {part}".rstrip())
    path = cache.cache_folder() / cache.FEATURES / f"{key}.npz"
    found = cache.derived(path, reading.load, build)
    cache.warn_if_rebuilt(found)
    return found.content, path
