"""Windows and answers by a model's own tokeniser, compared with those of the library itself."""

import gzip
import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import PROJECT, pocket
from tokenizers import Encoding, Tokenizer

from bertsquad.squad import answers, questions, tokeniser
from bertsquad.squad.hugging_face import CharacterFeatures, HuggingFaceReading
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
@pytest.mark.parametrize("sizes", ["96/32", "384/128"])
def test_windows_are_those_that_transformers_makes(family: str, sizes: str) -> None:
    length, stride = map(int, sizes.split("/"))
    made = HuggingFaceReading(opened(family), length, stride).build(asked())
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
    found = answers.find(asked(), made, reading.texts(asked(), made), given, threshold)
    assert found.keys() == wanted["answers"].keys()
    for question, answer in found.items():
        expected = wanted["answers"][question]
        assert answer.text == expected["by_offsets"], question
        assert answer.score == pytest.approx(expected["score"], abs=1e-5)
        if threshold is None:
            assert answer.null_score is None
        else:
            assert answer.score is not None and answer.null_score is not None
            difference = answer.null_score - answer.score
            assert difference == pytest.approx(expected["null_minus_score"], abs=1e-5)
    empty = sum(not answer.text for answer in found.values())
    assert (threshold is None) == (empty == 0)
