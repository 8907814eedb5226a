"""Windows and answers by a model's own tokeniser, compared with those of the library itself."""

import gzip
import json
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from shared_data import (
    PROJECT,
    VOCABULARY_FILE,
    dev_set,
    dev_set_features,
    needs_dev_set,
    pocket,
    pocket_features,
    vocabulary,
)
from tokenizers import Encoding, Tokenizer, pre_tokenizers, processors

from bertsquad.errors import SuiteError
from bertsquad.progress import Step
from bertsquad.squad import answers, features, questions, tokeniser
from bertsquad.squad.hugging_face import CharacterFeatures, HuggingFaceReading
from bertsquad.squad.mlperf import MlperfFeatures
from bertsquad.squad.questions import Dataset, Question

FAMILIES = PROJECT / "tests" / "families" / "torch"
#: What transformers makes of some questions; its README says how.
GOLDEN = PROJECT / "tests" / "golden"
NAMES = sorted(path.name for path in FAMILIES.iterdir())
families = pytest.mark.parametrize("family", NAMES)

CONTEXT = "Strange 4,000 naïve words' supercalifragilistic tide « x » 東京 "
QUESTION = "Who mapped the shifting sandbanks?"


@cache
def opened(family: str) -> tokeniser.Tokeniser:
    return tokeniser.load(FAMILIES / family)


@cache
def library(family: str) -> Tokenizer:
    """The tokeniser as the library opens it, with nothing of ours."""
    return Tokenizer.from_file(str(FAMILIES / family / "tokenizer.json"))


def dataset(*pairs: tuple[str, str]) -> Dataset:
    """A context and a question to it each."""
    questions = (Question(f"q{i}", text, i, ("x",)) for i, (_, text) in enumerate(pairs))
    return Dataset(tuple(context for context, _ in pairs), tuple(questions))


def windows_of(
    one: Tokenizer, question: str, context: str, length: int, stride: int, side: str = "right"
) -> list[Encoding]:
    """The windows that the library makes of a pair, as run_qa asks it to."""
    one.no_padding()
    one.enable_truncation(length, stride=stride, strategy="only_second", direction=side)
    made = one.encode(question.lstrip(), context)
    return [made, *made.overflowing]


def equal(made: CharacterFeatures, sample: int, wanted: Encoding) -> None:
    """Assert that a window is the library's: ids, segments, the characters of its tokens."""
    ids, mask, segments = made.batch([sample])
    assert ids[0].tolist() == wanted.ids
    assert mask[0].tolist() == wanted.attention_mask
    first = int(made.context_start[sample])
    places = [place for place, part in enumerate(wanted.sequence_ids) if part == 1]
    assert places == list(range(first, len(wanted.ids) - 1))
    low, high = made.offsets[sample : sample + 2]
    assert np.flatnonzero(made.max_context[low:high]).tolist() == places
    # XLM-R has no segments, but the library puts some in all windows after the first.
    if wanted.tokens[0] != "<s>":
        assert segments[0].tolist() == wanted.type_ids
    else:
        assert not segments.any()
    begin = int(made.context_offsets[made.question[sample]] + made.doc_start[sample])
    starts, ends = made.char_starts[begin:][: len(places)], made.char_ends[begin:][: len(places)]
    assert list(zip(starts, ends, strict=True)) == [wanted.offsets[place] for place in places]


@cache
def asked() -> Dataset:
    return questions.load(GOLDEN / "questions.json")


@cache
def golden(name: str) -> Any:
    content = (GOLDEN / name).read_bytes()
    return json.loads(gzip.decompress(content) if name.endswith(".gz") else content)


@families
@pytest.mark.parametrize("way", ["optimum", "torch"])
@pytest.mark.parametrize("sizes", ["96/32", "384/128"])
def test_windows_are_those_that_transformers_makes(family: str, way: str, sizes: str) -> None:
    length, stride = map(int, sizes.split("/"))
    loaded = tokeniser.load(FAMILIES.parent / way / family)
    made = HuggingFaceReading(loaded, length, stride).build(asked())
    seen = 0
    for index, question in enumerate(asked().questions):
        wanted = golden("windows.json.gz")[family][sizes].get(question.id)
        if wanted is None:
            continue
        samples = np.flatnonzero(made.question == index)
        assert len(samples) == len(wanted["input_ids"]), question.id
        for place, sample in enumerate(samples):
            ids, mask, segments = (array[0].tolist() for array in made.batch([int(sample)]))
            assert ids == wanted["input_ids"][place]
            assert mask == wanted["attention_mask"][place]
            if "token_type_ids" in wanted:  # else the model has no such input
                assert segments == wanted["token_type_ids"][place]
            first = int(made.context_start[sample])
            begin = int(made.context_offsets[question.context] + made.doc_start[sample])
            own = slice(begin, begin + len(ids) - first - 1)
            pairs = np.stack([made.char_starts[own], made.char_ends[own]], axis=1).tolist()
            assert pairs == wanted["offset_mapping"][place][first:-1]
            seen += 1
    assert seen > 30


@families
@pytest.mark.parametrize(("length", "stride"), [(384, 128), (150, 37)])
def test_the_bundled_questions_windows_are_the_library_s(
    family: str, length: int, stride: int
) -> None:
    made = HuggingFaceReading(opened(family), length, stride).build(pocket())
    sample = 0
    for index, question in enumerate(pocket().questions):
        context = pocket().contexts[question.context]
        for wanted in windows_of(library(family), question.text, context, length, stride):
            assert made.question[sample] == index
            ids = made.tokens[made.offsets[sample] : made.offsets[sample + 1]]
            assert ids.tolist() == wanted.ids
            sample += 1
    assert sample == len(made)


#: What normalisers and byte-level tokens take apart: emoji of several code points, ideographs,
#: letters from right to left, marks without a letter, blanks of all kinds, special tokens.
PARTS = """the tide came « naïve » 東京 😀 👩\u200d👩\u200d👧 🇩🇪 שלום مرحبا é ọ̌ ﬁ ½ Å ΟΔΟΣ ﷺ ß
İstanbul [SEP] [CLS] </s> <s> <mask> ## ' \u2019 -- 1,000 \u0301 \u200b \ufeff \ufffd""".split()
BLANKS = (" ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u202f", "\u3000", "\x00", "▁", "Ġ")
any_text = st.lists(
    st.sampled_from((*PARTS, *BLANKS)) | st.text(max_size=6),
    max_size=40,
).map("".join)


@families
@settings(max_examples=60, deadline=None)
@given(context=any_text, times=st.integers(1, 12), question=any_text, stride=st.integers(0, 20))
def test_any_text_s_windows_are_the_library_s(
    family: str, context: str, times: int, question: str, stride: int
) -> None:
    context, question = context * times, question[:60]
    frame, query = opened(family).frame.tokens, opened(family).encode([question.lstrip()])[0].ids
    length = frame + len(query) + stride + 7
    made = HuggingFaceReading(opened(family), length, stride).build(dataset((context, question)))
    wanted = windows_of(library(family), question, context, length, stride)
    if not any(part == 1 for part in wanted[0].sequence_ids):
        wanted = []  # the context has no token
    assert len(made) == len(wanted)
    for sample, window in enumerate(wanted):
        equal(made, sample, window)


@families
@pytest.mark.parametrize(("length", "stride"), [(31, 9), (64, 0)])
def test_windows_are_counted_from_the_end_where_the_tokeniser_cuts_at_the_left(
    family: str, length: int, stride: int
) -> None:
    cuts_left = replace(opened(family), from_end=True)
    made = HuggingFaceReading(cuts_left, length, stride).build(dataset((CONTEXT * 9, "Who?")))
    wanted = windows_of(library(family), "Who?", CONTEXT * 9, length, stride, "left")
    assert len(made) == len(wanted) > 4
    for sample, window in enumerate(wanted):
        equal(made, sample, window)


@settings(max_examples=40, deadline=None)
@given(context=any_text, times=st.integers(1, 12), trim=st.booleans(), prefix=st.booleans())
def test_any_blanks_around_byte_level_tokens_are_kept_as_the_library_keeps_them(
    context: str, times: int, trim: bool, prefix: bool
) -> None:
    """A blank may belong to a token's characters or not, as its settings say."""
    one = Tokenizer.from_str(library("roberta").to_str())
    one.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    one.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=trim, add_prefix_space=prefix
    )
    plain = Tokenizer.from_str(one.to_str())
    plain.no_truncation()
    plain.no_padding()
    context *= times
    made = HuggingFaceReading(replace(opened("roberta"), library=plain), 30, 5).build(
        dataset((context, "Why ?"))
    )
    wanted = windows_of(one, "Why ?", context, 30, 5)
    for sample, window in enumerate(wanted if len(made) else []):
        assert made.batch([sample])[0][0].tolist() == window.ids
        begin, first = int(made.doc_start[sample]), int(made.context_start[sample])
        own = slice(begin, begin + len(window.ids) - first - 1)
        pairs = list(zip(made.char_starts[own].tolist(), made.char_ends[own], strict=True))
        if prefix and sample:
            # With a blank before the first word, the library doesn't trim the one before a window's
            # first token, which we do: its characters are the same in all windows.
            assert np.abs(np.subtract(pairs[0], window.offsets[first])).max() <= 1
            pairs[0] = window.offsets[first]
        assert pairs == window.offsets[first:-1]


# Limits.


def test_windows_are_as_long_as_run_qa_makes_them_unless_the_model_takes_fewer() -> None:
    limited = replace(opened("bert_cased"), longest=90)
    for reading, expected in (
        (HuggingFaceReading(opened("bert_cased")), (384, 128)),
        (HuggingFaceReading(limited), (90, 30)),
        (HuggingFaceReading(opened("bert_cased"), longest=60), (60, 20)),
        (HuggingFaceReading(limited, longest=60), (60, 20)),
        (HuggingFaceReading(opened("bert_cased"), 512, 200), (512, 200)),
        (HuggingFaceReading(opened("bert_cased"), doc_stride=0), (384, 0)),
    ):
        assert (reading.max_length, reading.doc_stride) == expected


@pytest.mark.parametrize(
    ("length", "stride", "complaint"),
    [
        (513, None, "--max-length 513 is more than the 512 tokens"),
        (2, None, "--max-length 2 have 0 tokens for a question and its context"),
        (100, 97, "too few for an overlap of --doc-stride 97"),
        (None, 384, "too few for an overlap of --doc-stride 384"),
    ],
)
def test_sizes_that_leave_no_window_are_refused(
    length: int | None, stride: int | None, complaint: str
) -> None:
    with pytest.raises(SuiteError) as caught:
        HuggingFaceReading(opened("bert_cased"), length, stride)
    assert complaint in str(caught.value) and "\n" not in str(caught.value)
    assert "give " in str(caught.value)


def test_a_question_too_long_for_its_context_is_named_with_what_to_give() -> None:
    data = dataset((CONTEXT * 20, "why?"), (CONTEXT * 20, "why " * 70))
    reading = HuggingFaceReading(opened("bert_cased"), 100, 20)
    with pytest.raises(SuiteError) as caught:
        reading.build(data)
    said = str(caught.value)
    assert said.startswith("question 'q1' has ")
    assert said.endswith("shorten it, or give a larger --max-length")
    assert len(HuggingFaceReading(opened("bert_cased"), 500, 20).build(data)) > 2


def test_a_question_as_long_as_its_window_is_asked_where_its_context_fits() -> None:
    made = HuggingFaceReading(opened("bert_cased"), 100, 20).build(dataset(("x", "a " * 96)))
    assert made.lengths.tolist() == [100]


@families
@pytest.mark.parametrize("blank", ["", " \t\n"], ids=ascii)
def test_a_blank_question_or_context_is_as_the_library_has_it(family: str, blank: str) -> None:
    data = dataset(("Low tide.", blank), (blank, QUESTION), ("High tide.", "When?"))
    made = HuggingFaceReading(opened(family)).build(data)
    blanks = len(opened(family).encode([blank])[0].ids)  # a byte-level token each
    assert made.question.tolist() == ([0, 1, 2] if blanks else [0, 2])
    for sample, index in enumerate(made.question):
        question, context = data.questions[index].text, data.contexts[index]
        (wanted,) = windows_of(library(family), question, context, 384, 128)
        equal(made, sample, wanted)


def test_the_key_follows_the_tokeniser_and_the_sizes() -> None:
    keys = {
        HuggingFaceReading(opened(family), length, stride).key
        for family in NAMES
        for length, stride in ((384, 128), (384, 127), (383, 128))
    }
    assert len(keys) == 3 * len(NAMES)
    assert HuggingFaceReading(opened("albert")).key == HuggingFaceReading(opened("albert")).key


@families
def test_a_cache_gives_back_what_was_saved(family: str, tmp_path: Path) -> None:
    reading = HuggingFaceReading(opened(family), 100, 20)
    made, path = reading.build(asked()), tmp_path / "features.npz"
    features.save(made, path)
    for field in fields(CharacterFeatures):
        assert np.array_equal(getattr(reading.load(path), field.name), getattr(made, field.name))
    windows = features.load(path)
    for one, other in zip(windows.batch(range(9)), made.batch(range(9)), strict=True):
        assert one.tolist() == other.tolist()


def test_the_features_of_another_reading_are_older_ones(tmp_path: Path) -> None:
    features.save(pocket_features(), tmp_path / "features.npz")
    with pytest.raises(LookupError):
        HuggingFaceReading(opened("albert")).load(tmp_path / "features.npz")


def test_featurising_tells_how_far_it_is() -> None:
    told: list[Step] = []
    HuggingFaceReading(opened("albert")).build(asked(), told.append)
    count = len(asked().questions)
    assert told == [
        Step("featurising"),
        *(Step("featurising", done, count, "questions") for done in range(count)),
    ]


# Answers.


def logits(kind: str, seed: int, sample: int, length: int) -> answers.Logits:
    """Logits that anyone can make again; how the golden answers were made."""
    drawn = np.random.default_rng([seed, sample]).standard_normal((length, 2)).astype(np.float32)
    if kind == "peaky":
        drawn = (drawn**3 * 4).astype(np.float32)
    drawn[0] += np.float32(2)
    return drawn


@pytest.mark.parametrize("case", range(4))
def test_answers_to_made_logits_are_those_of_transformers(case: int) -> None:
    reading = HuggingFaceReading(opened("bert_cased"), 96, 32)
    made = reading.build(asked())
    wanted = golden("choices.json")[case]
    given = {
        sample: logits(wanted["logits"], wanted["seed"], sample, int(length))
        for sample, length in enumerate(made.lengths)
    }
    threshold = wanted["null_threshold"]
    found = find("bert_cased", asked(), made, given, threshold)
    assert found.keys() == wanted["answers"].keys()
    for question, answer in found.items():
        expected = wanted["answers"][question]
        assert answer.text == expected["by_offsets"], question
        assert answer.score == expected["score"]
        if threshold is None:
            assert answer.null_score is None
        else:
            assert answer.score is not None and answer.null_score is not None
            difference = answer.null_score - answer.score
            assert difference == pytest.approx(expected["null_minus_score"], abs=1e-9)
    empty = sum(not answer.text for answer in found.values())
    assert (threshold is None) == (empty == 0)


def find(
    family: str,
    data: Dataset,
    made: CharacterFeatures,
    given: Mapping[int, answers.Logits],
    threshold: float | None = None,
) -> dict[str, answers.Answer]:
    texts = HuggingFaceReading(opened(family)).texts(data, made)
    found = answers.find(replace(data, version_2=threshold is not None), made, texts, given)
    return {
        name: replace(answer, text=answer.given(-1e9 if threshold is None else threshold))
        for name, answer in found.items()
    }


def drawn(made: CharacterFeatures, seed: int = 1) -> dict[int, answers.Logits]:
    return {s: logits("normal", seed, s, int(n)) for s, n in enumerate(made.lengths)}


def swapped(made: CharacterFeatures, order: list[int]) -> CharacterFeatures:
    """The same windows in another order."""
    spans = [slice(made.offsets[i], made.offsets[i + 1]) for i in order]
    return replace(
        made,
        tokens=np.concatenate([made.tokens[span] for span in spans]),
        offsets=np.concatenate([[0], np.cumsum(made.lengths[order])]),
        max_context=np.concatenate([made.max_context[span] for span in spans]),
        **{
            name: getattr(made, name)[order]
            for name in ("question", "context_start", "segment_start", "doc_start")
        },
    )


@families
@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(st.tuples(any_text, any_text), min_size=1, max_size=3),
    times=st.integers(1, 20),
    random=st.randoms(use_true_random=False),
    threshold=st.none() | st.floats(-3, 3),
)
def test_an_answer_is_a_part_of_its_context_in_whatever_order_windows_are(
    family: str,
    texts: list[tuple[str, str]],
    times: int,
    random: Random,
    threshold: float | None,
) -> None:
    data = dataset(*((context * times, question[:20]) for context, question in texts))
    made = HuggingFaceReading(opened(family), 120, 11).build(data)
    given = drawn(made)
    found = find(family, data, made, given, threshold)
    for question in data.questions:
        answer = found[question.id]
        assert answer.text in data.contexts[question.context] or answer.text == answers.NO_ANSWER
        assert threshold is None or answer.text != answers.NO_ANSWER or answer.score is None
    if not len(made):
        return
    order = list(range(len(made)))
    random.shuffle(order)
    other = {place: given[sample] for place, sample in enumerate(order)}
    assert find(family, data, swapped(made, order), other, threshold) == found


@families
@settings(max_examples=30, deadline=None)
@given(
    words=st.lists(st.sampled_from(PARTS[:12]), min_size=3, max_size=20),
    before=st.lists(st.sampled_from(PARTS[:12]), min_size=1, max_size=20),
    place=st.integers(1, 99),
    count=st.integers(1, 5),
)
def test_an_answer_moves_with_its_context(
    family: str, words: list[str], before: list[str], place: int, count: int
) -> None:
    first = 1 + place % (len(words) - 1)  # the word before it stays the same
    last = min(first + count, len(words)) - 1
    context, ahead = " ".join(words), " ".join(before) + " "
    data = dataset((context, QUESTION), (ahead + context, QUESTION))
    made = HuggingFaceReading(opened(family), 512, 0).build(data)
    begin = len(" ".join(words[:first])) + 1
    end = begin + len(" ".join(words[first : last + 1]))
    given, spans = {}, []
    for sample, moved in enumerate((0, len(ahead))):
        own = slice(*made.context_offsets[sample : sample + 2])
        starts, ends = made.char_starts[own], made.char_ends[own]
        start = int(np.flatnonzero(ends > begin + moved)[0])
        stop = int(np.flatnonzero(starts < end + moved)[-1])
        assume(stop - start < answers.MAX_ANSWER_TOKENS)
        shift = int(made.context_start[sample])
        given[sample] = np.full((int(made.lengths[sample]), 2), -9, np.float32)
        given[sample][start + shift, 0] = given[sample][stop + shift, 1] = 9
        spans.append((int(starts[start]) - moved, int(ends[stop]) - moved))
    assert spans[0] == spans[1]
    found = find(family, data, made, given)
    assert found["q0"] == found["q1"]
    assert found["q0"].text.strip() == context[begin:end]


# MLPerf's own model, with its vocabulary as Hugging Face's tokeniser reads it.


@cache
def uncased() -> tokeniser.Tokeniser:
    return tokeniser.load(VOCABULARY_FILE)


DATA_SETS = [
    pytest.param(pocket, pocket_features, id="pocket"),
    pytest.param(dev_set, dev_set_features, id="squad", marks=needs_dev_set),
]


@pytest.mark.parametrize(("load", "featurise"), DATA_SETS)
def test_the_ids_are_mlperf_s_and_the_windows_too_where_a_context_fits(
    load: Callable[[], Dataset], featurise: Callable[[], MlperfFeatures]
) -> None:
    """Where it doesn't, windows begin elsewhere: run_qa counts the overlap, MLPerf the step."""
    data, mlperf = load(), featurise()
    made = HuggingFaceReading(uncased()).build(data)
    assert made.context_offsets.tolist() == mlperf.context_offsets.tolist()
    for context, encoding in enumerate(uncased().encode(data.contexts)):
        low, high = mlperf.context_offsets[context : context + 2]
        assert mlperf.context_tokens[low:high].tolist() == encoding.ids
    several = np.flatnonzero(np.bincount(mlperf.question) > 1)
    alone = [np.flatnonzero(~np.isin(one.question, several)) for one in (made, mlperf)]
    assert len(alone[0]) == len(alone[1]) > 400
    for one, other in zip(*alone, strict=True):
        for ours, theirs in zip(made.batch([one]), mlperf.batch([other]), strict=True):
            assert ours.tolist() == theirs.tolist()
        assert made.context_start[one] == mlperf.context_start[other]


#: Where BERT's Python code and the library differ, and why; no text of SQuAD has any of it.
CORNERS = {
    "ΟΔΟΣ": "the library has no final sigma",
    "a\U0002b820b": "one block of ideographs isn't one to the library",
    "a\u0378b": "BERT drops characters that Unicode hasn't assigned",
    "a\u1885b": "a mark since Unicode 9, which the library doesn't know",
}


@pytest.mark.parametrize("text", CORNERS, ids=ascii)
def test_the_ids_differ_from_mlperf_s_in_corners_of_unicode(text: str) -> None:
    assert uncased().encode([text])[0].ids != list(vocabulary().encode([text])[text])


def test_the_ids_are_mlperf_s_for_every_character_that_unicode_has_long_had() -> None:
    """Each that Unicode 3.2 had, but for those that it has changed its mind about since."""
    old = unicodedata.ucd_3_2_0
    texts = [
        f"a{chr(code)}b"
        for code in range(0x110000)
        if old.category(chr(code)) not in ("Cn", "Cs", "Co")
        and old.category(chr(code)) == unicodedata.category(chr(code))
    ]
    assert len(texts) > 90_000
    mlperf = vocabulary().encode(texts)
    different = {
        text
        for begin in range(0, len(texts), 10_000)
        for text, encoding in zip(
            texts[begin:][:10_000], uncased().encode(texts[begin:][:10_000]), strict=True
        )
        if encoding.ids != list(mlperf[text])
    }
    assert different <= {f"a{char}b" for char in "\u1885\u1886\u1734\u166d"}
