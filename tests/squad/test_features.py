import contextlib
import hashlib
import io
import os
import pickle
import zipfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from counted import calls
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shared_data import (
    POCKET_FILE,
    VOCABULARY_FILE,
    dev_set,
    dev_set_features,
    needs_dev_set,
    needs_golden,
    pocket,
    pocket_features,
    reading,
    vocabulary,
)

from bertsquad.squad import datasets, features
from bertsquad.squad.features import Features
from bertsquad.squad.mlperf import MlperfFeatures, MlperfReading
from bertsquad.squad.questions import Dataset, Question
from bertsquad.squad.tokenization import Vocabulary, context_words

CLS, SEP = 101, 102


def dataset(*pairs: tuple[str, str]) -> Dataset:
    """A context and a question to it each."""
    questions = (Question(f"q{i}", text, i, ("x",)) for i, (_, text) in enumerate(pairs))
    return Dataset(tuple(context for context, _ in pairs), tuple(questions))


def build(*pairs: tuple[str, str]) -> MlperfFeatures:
    return reading().build(dataset(*pairs))


def ids(text: str) -> list[int]:
    return list(vocabulary().encode([text])[text])


def window(made: Features, sample: int) -> list[int]:
    return [int(t) for t in made.tokens[made.offsets[sample] : made.offsets[sample + 1]]]


def owned(made: Features, sample: int) -> list[int]:
    """The context tokens at which an answer may start in this window."""
    low, high = made.offsets[sample : sample + 2]
    positions = np.flatnonzero(made.max_context[low:high])
    return [int(p) for p in positions - made.context_start[sample] + made.doc_start[sample]]


def slow_windows(question: list[int], context: list[int]) -> Iterator[tuple[int, list[int]]]:
    """BERT's windows: where each begins in the context, and its tokens."""
    query = question[:64]
    start = 0
    while start < len(context):
        piece = context[start : start + 384 - len(query) - 3]
        yield start, [CLS, *query, SEP, *piece, SEP]
        if start + len(piece) == len(context):
            break
        start += min(len(piece), 128)


def slow_owner(position: int, spans: list[tuple[int, int]]) -> int:
    """BERT's `_check_is_max_context`: the window with most context on the poorer side."""
    scores = {
        index: min(position - first, last - position) + 0.01 * (last - first + 1)
        for index, (first, last) in enumerate(spans)
        if first <= position <= last
    }
    return max(scores, key=lambda index: scores[index])


LONG = "Strange 4,000 naïve words' supercalifragilistic tide \u200b « x » "
QUESTION = "Who mapped the shifting sandbanks?"


@needs_golden
def test_the_dev_set_s_arrays_are_mlperf_s_to_the_bit() -> None:
    digest = hashlib.sha256()
    for array in dev_set_features().batch(range(len(dev_set_features())), 384):
        assert array.shape == (10_833, 384)
        digest.update(array.tobytes())
    expected = "1528aea535c80386649414cc256a93a564969c9ad7af36ba964934f9216d8262"
    assert digest.hexdigest() == expected


@needs_dev_set
def test_the_dev_set_has_10833_windows_and_1933625_tokens() -> None:
    made = dev_set_features()
    assert len(made) == len(made.lengths) == 10_833
    assert len(made.tokens) == made.lengths.sum() == 1_933_625
    assert set(made.question) == set(range(len(dev_set().questions)))


def test_a_short_question_is_one_window() -> None:
    made = build(("The tide turned at noon.", "When did it turn?"))
    question, context = ids("When did it turn?"), ids("The tide turned at noon.")
    assert window(made, 0) == [CLS, *question, SEP, *context, SEP]
    assert len(made) == 1
    assert list(made.context_start) == [len(question) + 2]
    assert list(made.doc_start) == [0]
    assert owned(made, 0) == list(range(len(context)))


def test_a_question_is_cut_at_64_tokens() -> None:
    question = "where " * 63 + "is the Smith's tide"
    assert len(ids(question)) > 64
    made = build(("The tide turned at noon.", question))
    assert window(made, 0)[:66] == [CLS, *ids(question)[:64], SEP]
    assert window(made, 0)[66:] == [*ids("The tide turned at noon."), SEP]
    assert list(made.context_start) == [66]


@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_the_token_that_does_not_fit_any_more_makes_a_second_window(spare: int) -> None:
    room = 384 - len(ids(QUESTION)) - 3
    made = build(("tide " * (room - spare), QUESTION))
    assert len(made) == (2 if spare < 0 else 1)
    assert made.lengths[0] == (384 if spare <= 0 else 383)


def test_windows_of_a_long_context_advance_by_128_and_reach_its_end() -> None:
    made = build((LONG * 200, QUESTION))
    context = ids(LONG * 200)
    assert len(context) > 3_000
    assert list(np.diff(made.doc_start)) == [128] * (len(made) - 1)
    assert list(made.lengths[:-1]) == [384] * (len(made) - 1)
    assert made.lengths[-1] <= 384
    head = made.context_start[-1]
    assert made.doc_start[-1] + made.lengths[-1] - head - 1 == len(context)
    for sample, (start, tokens) in enumerate(slow_windows(ids(QUESTION), context)):
        assert (made.doc_start[sample], window(made, sample)) == (start, tokens)


@settings(max_examples=60, deadline=None)
@given(
    words=st.integers(0, 1_200), question_words=st.integers(0, 90), word=st.sampled_from(LONG[:40])
)
def test_every_context_token_may_begin_an_answer_in_one_window(
    words: int, question_words: int, word: str
) -> None:
    context, question = f"ab{word}c " * words, "why " * question_words
    made = build((context, question))
    expected = list(slow_windows(ids(question), ids(context)))
    assert [window(made, sample) for sample in range(len(made))] == [t for _, t in expected]
    head = min(len(ids(question)), 64) + 3
    spans = [(start, start + len(tokens) - head - 1) for start, tokens in expected]
    owners: list[list[int]] = [[] for _ in spans]
    for position in range(len(ids(context))):
        owners[slow_owner(position, spans)].append(position)
    assert [owned(made, sample) for sample in range(len(made))] == owners


@pytest.mark.parametrize("blank", ["", " \t\r\n", "\u200b \u00ad \ufeff"])
def test_a_blank_context_has_no_window_and_its_neighbours_keep_theirs(blank: str) -> None:
    made = build(("Low tide.", "When?"), (blank, QUESTION), ("High tide.", "And then?"))
    assert list(made.question) == [0, 2]
    assert window(made, 1) == [CLS, *ids("And then?"), SEP, *ids("High tide."), SEP]
    assert list(np.diff(made.context_offsets)) == [3, 0, 3]


@pytest.mark.parametrize("blank", ["", " \t\n", "\u200b"], ids=ascii)
def test_a_blank_question_still_has_its_window(blank: str) -> None:
    made = build(("Low tide.", blank))
    assert window(made, 0) == [CLS, SEP, *ids("Low tide."), SEP]
    assert list(made.context_start) == [2]


def test_a_context_of_20_000_tokens_has_windows_to_its_end() -> None:
    made = build(("tide " * 20_000, QUESTION))
    room = 384 - len(ids(QUESTION)) - 3
    starts = range(0, 20_000 - room + 128, 128)
    assert made.doc_start.tolist() == list(starts)
    assert sorted(p for s in range(len(made)) for p in owned(made, s)) == list(range(20_000))


LONG_KINDS = {
    "words": "tide and {} time ",
    "one word": "a",
    "ideographs": "東",
    "accents": "é",
    "marks": "\u0301\u0323",
    "signs": "!",
    "blanks": " ",
}


@pytest.mark.parametrize("kind", LONG_KINDS)
def test_work_grows_as_a_context_does(kind: str) -> None:
    def work(times: int) -> int:
        context = "x " + "".join(LONG_KINDS[kind].format(n) for n in range(times)) + " y"
        return calls(lambda: build((context, QUESTION)))

    one, two, four = work(4_000), work(8_000), work(16_000)
    assert four - two < 2.5 * (two - one) + 100


def test_each_question_of_a_long_context_is_work_for_its_windows_alone() -> None:
    context = "".join(f"tide{n} " for n in range(4_000))

    def work(count: int) -> int:
        questions = [Question(f"{n}", f"When {n}?", 0, ("x",)) for n in range(count)]
        data = Dataset((context,), tuple(questions))
        return calls(lambda: reading().build(data))

    windows = len(build((context, QUESTION)))
    assert windows > 50
    work(1)  # fills what keeps between calls
    assert work(3) - work(2) < 30 * windows


any_text = st.text(
    st.characters(exclude_categories=())
    | st.sampled_from("aZ9 .\t\n\x00\u202f\u200b\ufeff\ufffd\ud800\U0001f469\u0301東ß")
)


@settings(max_examples=150, deadline=None)
@given(
    pairs=st.lists(st.tuples(any_text, st.integers(1, 700), any_text), min_size=1, max_size=3),
)
def test_windows_of_any_text_stay_inside_their_context(pairs: list[tuple[str, int, str]]) -> None:
    made = build(*((context * times, question) for context, times, question in pairs))
    for sample in range(len(made)):
        tokens, start = window(made, sample), int(made.doc_start[sample])
        first = int(made.context_start[sample])
        low, high = made.context_offsets[made.question[sample] :][:2]
        context = made.context_tokens[low:high].tolist()
        assert (tokens[0], tokens[first - 1], tokens[-1]) == (CLS, SEP, SEP)
        assert first < len(tokens) - 1 <= 383
        assert tokens[first:-1] == context[start : start + len(tokens) - first - 1]
        assert set(owned(made, sample)) <= set(range(start, start + len(tokens) - first - 1))


def test_a_data_set_of_blank_contexts_alone_has_no_windows() -> None:
    made = build(("", QUESTION))
    assert len(made) == len(made.tokens) == len(made.lengths) == 0


def test_each_context_token_knows_its_word() -> None:
    context = "Smith's \u200b naïve\u00a0tide, 1999"
    made = build((context, QUESTION))
    words = context_words(context)
    assert words == ["Smith's", "\u200b", "naïve\u00a0tide,", "1999"]
    assert list(made.word_of_token) == [0, 0, 0, 2, 2, 2, 3]
    assert list(made.context_tokens) == ids(context)


def test_questions_share_their_context_and_keep_file_order() -> None:
    contexts = ("Low tide.", "Spring tide.")
    questions = (("When?", 0), ("Where?", 0), ("Why?", 1))
    made = reading().build(
        Dataset(contexts, tuple(Question(text, text, c, ("x",)) for text, c in questions))
    )
    assert list(made.question) == [0, 1, 2]
    assert list(made.context_offsets) == [0, 3, 6]
    assert [window(made, s) for s in range(3)] == [
        [CLS, *ids(text), SEP, *ids(contexts[c]), SEP] for text, c in questions
    ]


def test_a_batch_is_padded_with_zeros_to_its_longest() -> None:
    made = build(("Low tide.", "When?"), ("The spring tide came in.", "And then what?"))
    arrays = made.batch([0, 1])
    (short, long), (question, then) = made.lengths, (ids("When?"), ids("And then what?"))
    assert all(array.shape == (2, long) and array.dtype == np.int64 for array in arrays)
    tokens, mask, segments = (array.tolist() for array in arrays)
    gap = long - short
    assert gap > 0
    assert tokens == [window(made, 0) + [0] * gap, window(made, 1)]
    assert mask == [[1] * short + [0] * gap, [1] * long]
    heads = [len(question) + 2, len(then) + 2]
    assert segments == [
        [0] * heads[0] + [1] * (short - heads[0]) + [0] * gap,
        [0] * heads[1] + [1] * (long - heads[1]),
    ]


def test_a_batch_keeps_the_order_asked_for_and_may_repeat() -> None:
    made = pocket_features()
    asked = np.array([7, 3, 3, 400])
    tokens, mask, _ = made.batch(asked)
    for row, sample in enumerate(asked):
        length = made.lengths[sample]
        assert tokens[row, :length].tolist() == window(made, sample)
        assert mask[row].sum() == length


def test_a_batch_is_padded_to_the_length_asked_for() -> None:
    made = build(("Low tide.", "When?"))
    for array, whole in zip(made.batch([0]), made.batch([0], 384), strict=True):
        assert whole.shape == (1, 384)
        assert whole[:, : array.shape[1]].tolist() == array.tolist()
        assert not whole[:, array.shape[1] :].any()


def same(one: Features, other: Features) -> bool:
    pairs = [
        (getattr(one, field.name), getattr(other, field.name)) for field in fields(MlperfFeatures)
    ]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


@pytest.fixture
def cache_file(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "folder" / "features.npz"
    features.save(build((LONG * 60, QUESTION), ("", "Why?")), path)
    return path


def test_the_cache_gives_back_what_was_saved(cache_file: Path) -> None:
    assert same(reading().load(cache_file), build((LONG * 60, QUESTION), ("", "Why?")))
    assert [path.name for path in cache_file.parent.iterdir()] == [cache_file.name]


def test_saving_again_replaces_the_cache(cache_file: Path) -> None:
    features.save(pocket_features(), cache_file)
    assert same(reading().load(cache_file), pocket_features())


def test_a_cache_cut_off_anywhere_is_refused(cache_file: Path) -> None:
    whole = cache_file.read_bytes()
    for length in [*range(0, len(whole), max(1, len(whole) // 97)), len(whole) - 1]:
        cache_file.write_bytes(whole[:length])
        with pytest.raises(ValueError):
            features.load(cache_file)


def test_a_cache_with_a_changed_token_is_refused(cache_file: Path) -> None:
    whole = bytearray(cache_file.read_bytes())
    at = whole.index(build((LONG * 60, QUESTION)).tokens[:40].tobytes())
    whole[at] ^= 1
    cache_file.write_bytes(whole)
    with pytest.raises(ValueError, match=r"features\.npz"):
        features.load(cache_file)


def test_a_cache_with_a_byte_changed_anywhere_is_refused_or_reads_the_same(tmp_path: Path) -> None:
    made, path = build(("Low tide.", "When?")), tmp_path / "features.npz"
    features.save(made, path)
    whole = path.read_bytes()
    refused = 0
    for at in range(0, len(whole), 5):
        changed = bytearray(whole)
        changed[at] ^= 1 << (at % 8)
        path.write_bytes(changed)
        try:
            assert same(reading().load(path), made)
        except (ValueError, LookupError) as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > len(whole) / 10


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(3))
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        b"not a cache",
        pytest.param(
            npy(),
        ),
    ],
    ids=["empty", "stump", "text", "npy"],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "features.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError):
        features.load(path)


@pytest.mark.parametrize(
    ("place", "bits"), [(8, 0x01), (10, 0x41)], ids=["encrypted", "unknown-compression"]
)
def test_a_cache_whose_directory_is_damaged_is_refused(
    cache_file: Path, place: int, bits: int
) -> None:
    whole = bytearray(cache_file.read_bytes())
    whole[whole.index(b"PK\x01\x02") + place] ^= bits
    cache_file.write_bytes(whole)
    with pytest.raises(ValueError):
        features.load(cache_file)


def test_a_missing_cache_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.npz"):
        features.load(tmp_path / "nowhere.npz")


def test_a_cache_without_one_of_its_arrays_is_refused(tmp_path: Path) -> None:
    made = build(("Low tide.", "When?"))
    arrays = {field.name: getattr(made, field.name) for field in fields(MlperfFeatures)}
    for name in arrays:
        path = tmp_path / f"without-{name}.npz"
        np.savez(path, **{key: value for key, value in arrays.items() if key != name})
        with pytest.raises(LookupError, match=path.name):
            reading().load(path)


def write_members(path: Path, member: bytes) -> None:
    """Write a cache in which each array's place is taken by `member`."""
    with zipfile.ZipFile(path, "w") as archive:
        for field in fields(MlperfFeatures):
            archive.writestr(f"{field.name}.npy", member)


def test_a_cache_whose_arrays_claim_an_absurd_size_is_refused(tmp_path: Path) -> None:
    path, member = tmp_path / "features.npz", io.BytesIO()
    header = {"descr": "<i4", "fortran_order": False, "shape": (10**15,)}
    np.lib.format.write_array_header_1_0(member, header)
    write_members(path, member.getvalue())
    with pytest.raises(ValueError, match=r"features\.npz"):
        features.load(path)


def test_a_cache_whose_members_are_not_arrays_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    write_members(path, b"neither an array nor a pickle")
    with pytest.raises(ValueError):
        features.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": np.zeros(3, np.int32)},
        {"tokens": np.array(["a", "b"])},
        {"max_context": np.zeros((2, 2), np.bool_)},
        {"offsets": np.array([0, 10**9], np.int64)},
        {"offsets": np.array([1, 8], np.int64)},
        {"offsets": np.array([0, 8, -1, 8], np.int64)}
        | dict.fromkeys(
            ("question", "context_start", "segment_start", "doc_start"), np.zeros(3, np.int32)
        ),
        {"context_offsets": np.empty(0, np.int64)},
    ],
    ids=[
        *("too-short", "text", "two-axes", "offsets-past-the-end"),
        *("offsets-not-from-0", "offsets-falling", "no-offsets"),
    ],
)
def test_a_cache_whose_arrays_do_not_fit_each_other_is_refused(
    tmp_path: Path, change: dict[str, NDArray[Any]]
) -> None:
    made = build(("Low tide.", "When?"))
    arrays = {field.name: getattr(made, field.name) for field in fields(MlperfFeatures)}
    path = tmp_path / "features.npz"
    np.savez(path, **(arrays | change))
    with pytest.raises(ValueError):
        reading().load(path)


class Bomb:
    """Unpickling it makes the folder `trace`."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def test_a_pickle_is_refused_and_never_unpickled(cache_file: Path, tmp_path: Path) -> None:
    trace = tmp_path / "unpickled"
    bomb = pickle.dumps(Bomb(trace))
    with_object = io.BytesIO()
    np.save(with_object, np.array([Bomb(trace)], object), allow_pickle=True)

    cache_file.write_bytes(bomb)
    with pytest.raises(ValueError):
        features.load(cache_file)
    write_members(cache_file, with_object.getvalue())
    with pytest.raises(ValueError):
        features.load(cache_file)
    write_members(cache_file, bomb)
    with contextlib.suppress(ValueError):
        features.load(cache_file)
    assert not trace.exists()

    pickle.loads(bomb)
    assert trace.exists(), "the bomb would not have gone off in any case"


def test_the_cache_s_key_follows_the_data_set_and_the_reading(tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    data.write_bytes(b"data")
    first = features.cache_key(data, "words")
    assert first == features.cache_key(data, "words")
    other_reading = features.cache_key(data, "wordS")
    data.write_bytes(b"datA")
    assert len({first, other_reading, features.cache_key(data, "words")}) == 3

    data.write_bytes(b"data")
    moved = data.rename(tmp_path / "elsewhere.json")
    assert features.cache_key(moved, "words") == first


def test_mlperf_s_reading_is_known_by_the_content_of_its_vocabulary(tmp_path: Path) -> None:
    same, other = tmp_path / "same.txt", tmp_path / "other.txt"
    same.write_bytes(VOCABULARY_FILE.read_bytes())
    other.write_bytes(VOCABULARY_FILE.read_bytes() + b"another\n")
    keys = [MlperfReading(Vocabulary(path)).key for path in (VOCABULARY_FILE, same, other)]
    assert keys[0] == keys[1] != keys[2]


def test_the_cache_s_key_follows_the_module_s_format(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = features.cache_key(VOCABULARY_FILE, "words")
    monkeypatch.setattr(features, "FORMAT", features.FORMAT + 1)
    assert features.cache_key(VOCABULARY_FILE, "words") != before


def test_the_bundled_data_set_has_windows_for_all_its_questions() -> None:
    assert sorted(set(pocket_features().question)) == list(range(len(pocket().questions)))


def test_a_damaged_cache_is_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path))
    wanted = (pocket(), reading(), POCKET_FILE)
    first, path = datasets.cached_features(*wanted)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match="was rebuilt"):
        again, same_path = datasets.cached_features(*wanted)
    assert same_path == path
    assert same(first, again)
    assert same(reading().load(path), first)
