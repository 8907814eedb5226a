import gzip
import json
import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from counted import calls
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shared_data import (
    GOLDEN,
    dev_set,
    dev_set_features,
    needs_golden,
    pocket,
    pocket_features,
    reading,
    vocabulary,
)

from bertsquad.errors import SuiteError
from bertsquad.squad import answers
from bertsquad.squad.features import Features
from bertsquad.squad.mlperf import AnswerTexts, MlperfFeatures
from bertsquad.squad.questions import Dataset, Question
from bertsquad.squad.reading import Texts
from bertsquad.squad.score import score
from bertsquad.squad.tokenization import context_words

Logits = NDArray[np.float32]


def logits(kind: str, seed: int, sample: int, length: int) -> Logits:
    """Logits that anyone can make again; how the golden predictions were made."""
    values = np.random.default_rng([seed, sample]).standard_normal((length, 2)).astype(np.float32)
    if kind == "ties":
        values = np.round(values).astype(np.float32)
    if kind == "peaky":
        values = (values**3 * 4).astype(np.float32)
    return values


def all_logits(made: Features, kind: str, seed: int) -> dict[int, Logits]:
    return {s: logits(kind, seed, s, int(n)) for s, n in enumerate(made.lengths)}


def find(data: Dataset, made: MlperfFeatures, logits: dict[int, Logits]) -> dict[str, str]:
    """The text of every answer."""
    found = answers.find(data, made, reading().texts(data, made), logits)
    return {question: answer.text for question, answer in found.items()}


@needs_golden
@pytest.mark.parametrize(
    ("kind", "seed", "exact_match", "f1"),
    [
        ("normal", 1, 0.12298959318826869, 7.461876031772203),
        ("ties", 2, 0.10406811731315042, 6.99618467306139),
        ("peaky", 3, 0.13245033112582782, 7.252742764381278),
    ],
)
def test_the_dev_set_s_answers_and_score_are_those_of_mlperf_s_script(
    kind: str, seed: int, exact_match: float, f1: float
) -> None:
    with gzip.open(GOLDEN / f"predictions_{kind}_{seed}.json.gz") as file:
        golden = json.load(file)
    made = dev_set_features()
    found = find(dev_set(), made, all_logits(made, kind, seed))
    assert len(found) == 10_570
    assert {key: (text, golden[key]) for key, text in found.items() if text != golden[key]} == {}
    scored = score(found, dev_set().questions)
    assert (scored.exact_match, scored.f1, scored.total) == (exact_match, f1, 10_570)


def slow_best_span(
    window: Logits, may_start: NDArray[np.bool_], first: int
) -> tuple[int, int, float] | None:
    """MLPerf's way: pad to 384, sort by Python, try every pair, sort again."""
    padded = [[float(v) for v in column] + [-10_000.0] * (384 - len(window)) for column in window.T]
    starts, ends = (
        [i for i, _ in sorted(enumerate(column), key=lambda pair: pair[1], reverse=True)[:20]]
        for column in padded
    )
    pairs = [
        (start, end, padded[0][start] + padded[1][end])
        for start in starts
        for end in ends
        if first <= start < len(window) - 1
        and first <= end < len(window) - 1
        and may_start[start]
        and start <= end < start + 30
    ]
    return sorted(pairs, key=lambda pair: pair[2], reverse=True)[0] if pairs else None


@pytest.mark.parametrize("kind", ["normal", "ties", "peaky"])
def test_the_best_span_is_the_one_that_trying_all_pairs_finds(kind: str) -> None:
    random = np.random.default_rng(5)
    nothing = 0
    for case in range(1_500):
        length = int(random.integers(4, 385)) if case % 2 else int(random.integers(4, 40))
        first = int(random.integers(2, length - 1))
        may_start = (np.arange(length) >= first) & (random.random(length) < random.random())
        may_start[-1] = False
        window = logits(kind, 6, case, length)
        expected = slow_best_span(window, may_start, first)
        nothing += expected is None
        assert answers.best_span(window[:, 0], window[:, 1], may_start, first) == expected
    assert 10 < nothing < 1_000


def peaks(length: int, start: dict[int, float], end: dict[int, float]) -> tuple[Logits, Logits]:
    made = np.full((2, length), -10.0, np.float32)
    for row, column in zip(made, (start, end), strict=True):
        for position, value in column.items():
            row[position] = value
    return made[0], made[1]


def best(
    start: dict[int, float],
    end: dict[int, float],
    length: int = 100,
    first: int = 5,
    barred: tuple[int, ...] = (),
) -> tuple[int, int] | None:
    may_start = np.zeros(length, np.bool_)
    may_start[first : length - 1] = True
    may_start[list(barred)] = False
    found = answers.best_span(*peaks(length, start, end), may_start, first)
    return None if found is None else found[:2]


def test_of_equally_good_spans_the_first_wins() -> None:
    assert best({}, {}) == (5, 5)
    assert best({40: 1, 30: 1}, {41: 1, 31: 1, 35: 1}) == (30, 31)


def test_of_equal_sums_the_one_with_the_better_start_wins() -> None:
    assert best({30: 1, 60: 2}, {31: 2, 61: 1}) == (60, 61)


def test_sums_are_compared_in_double_precision() -> None:
    lost_in_float32 = 2.0**-22
    assert best({30: 8, 70: 8}, {30: 0, 70: lost_in_float32}) == (70, 70)


@pytest.mark.parametrize(("end", "expected"), [(59, (30, 59)), (60, (60, 60))])
def test_an_answer_has_at_most_30_tokens(end: int, expected: tuple[int, int]) -> None:
    assert best({30: 9, 60: 1}, {end: 9}) == expected


def test_an_answer_does_not_end_before_it_starts() -> None:
    assert best({30: 9}, {29: 9, 33: 1}) == (30, 33)
    assert best({30: 9}, {30: 9, 29: 10}) == (30, 30)


def test_an_answer_starts_only_where_its_window_shows_most_context() -> None:
    assert best({30: 9, 31: 1}, {35: 9}, barred=(30,)) == (31, 35)


def test_an_answer_stays_inside_the_context() -> None:
    assert best({4: 9, 20: 1}, {4: 9, 22: 1}) == (20, 22), "the question comes before"
    assert best({98: 1}, {99: 9, 98: 1}) == (98, 98), "[SEP] comes after"


def test_only_the_20_best_starts_are_tried() -> None:
    end = dict.fromkeys(range(60, 80), 1.0)
    nineteen = dict.fromkeys(range(80, 99), 9.0)
    assert best(nineteen | {60: 1.0}, end) == (60, 60)
    assert best(nineteen | {60: 1.0, 99: 9.0}, end) is None


def test_only_the_20_best_ends_are_tried() -> None:
    start = dict.fromkeys(range(60, 80), 1.0)
    nineteen = dict.fromkeys(range(5, 24), 9.0)
    assert best(start, nineteen | {79: 1.0}) == (60, 79)
    assert best(start, nineteen | {79: 1.0, 24: 9.0}) is None


def test_a_span_of_infinitely_low_score_still_fits() -> None:
    low = dict.fromkeys(range(100), -np.inf)
    found = best(dict.fromkeys(range(20, 30), 1.0), low, first=0)
    assert found is not None
    assert found[0] <= found[1]


def one_question(context: str, question: str = "What is it?") -> tuple[Dataset, MlperfFeatures]:
    data = Dataset((context,), (Question("q", question, 0, ("x",)),))
    return data, reading().build(data)


def flat(made: Features) -> dict[int, Logits]:
    return {s: np.full((int(n), 2), -10, np.float32) for s, n in enumerate(made.lengths)}


def aim(made: Features, all_windows: dict[int, Logits], sample: int, first: int, last: int) -> None:
    """Let `sample`'s logits peak at the tokens `first` and `last` of its context."""
    shift = int(made.context_start[sample]) - int(made.doc_start[sample])
    all_windows[sample][first + shift, 0] = 9
    all_windows[sample][last + shift, 1] = 9


def answer_at(context: str, pieces: str) -> str:
    """The answer where the logits peak at the first run of `pieces` in `context`."""
    data, made = one_question(context)
    tokens = [vocabulary().pieces[token] for token in made.context_tokens]
    wanted = pieces.split()
    runs = (i for i in range(len(tokens)) if tokens[i : i + len(wanted)] == wanted)
    first = next(runs, None)
    assert first is not None, f"{pieces} is not in {tokens}"
    windows = flat(made)
    aim(made, windows, 0, first, first + len(wanted) - 1)
    return find(data, made, windows)["q"]


@pytest.mark.parametrize(
    ("context", "pieces", "expected"),
    [
        ("It was John Smith's idea.", "smith", "Smith"),
        ("It was John Smith's idea.", "john smith ' s", "John Smith's"),
        ("It was John Smith's idea.", "idea", "idea"),
        ("It was John Smith's idea.", "idea .", "idea."),
        ("the (Café Olé), 1999", "cafe ole", "Café Olé"),
        ("the (Café Olé), 1999", "( cafe", "(Café"),
        ("They paid €5.50, not $6.", "50", "50"),
        ("They paid $5.50, not $6.", "$ 5 . 50", "$5.50"),
        ("“NAÏVE,” she said", "naive", "NAÏVE"),
        ("in New  \n\tYork\u202fCity, today", "new york city", "New York City"),
        ("İzmir's port", "i ##z ##mir", "İzmir"),
        ("all unaffable men", "una ##ffa", "unaffa"),
        ("all unaffable men", "##ffa", "ffa"),
        ("東京tower", "東", "東"),
        ("東京tower", "京 tower", "京tower"),
    ],
)
def test_an_answer_is_cut_from_the_original_text(context: str, pieces: str, expected: str) -> None:
    assert answer_at(context, pieces) == expected


@pytest.mark.parametrize(
    ("context", "pieces", "expected"),
    [
        ("a cafe\u0301's door", "cafe", "cafe\u0301's"),
        ("some 10\u00a0km, then", "10 km", "10\u00a0km,"),
        ("a zero\u200bday, then", "zero ##day", "zero\u200bday,"),
        ("all ☃☃, then", "[UNK]", "☃☃,"),
        ("all ☃☃, then gone", "[UNK] , then", "☃☃, then"),
    ],
    ids=["combining-accent", "no-break-space", "zero-width-space", "unknown", "unknown-run"],
)
def test_where_the_alignment_fails_whole_words_are_the_answer(
    context: str, pieces: str, expected: str
) -> None:
    assert answer_at(context, pieces) == expected


def test_the_words_are_cut_at_the_first_place_that_reads_the_same() -> None:
    assert answer_at("Tom-TOM drum", "- tom") == "-TOM"
    data, made = one_question("Tom-TOM drum")
    texts = AnswerTexts(data, made, vocabulary())
    assert [vocabulary().pieces[token] for token in made.context_tokens[:3]] == ["tom", "-", "tom"]
    assert texts.text(0, 2, 2) == "Tom"


def test_a_word_as_long_as_its_context_is_taken_apart_once_for_all_questions() -> None:
    data, made = one_question("東京" * 5_000 + " tower")
    texts = AnswerTexts(data, made, vocabulary())
    first, second = calls(lambda: texts.text(0, 1, 2)), calls(lambda: texts.text(0, 7, 8))
    assert second < first / 100
    assert texts.text(0, 1, 2) == "京東"
    assert texts.text(0, 9_999, 10_000) == "京 tower"


def test_each_answer_comes_from_its_own_context() -> None:
    contexts = ("Low tide.", "", "The Spring-tide came.")
    data = Dataset(
        contexts, tuple(Question(f"q{i}", "What?", i, ("x",)) for i in range(len(contexts)))
    )
    made = reading().build(data)
    windows = flat(made)
    aim(made, windows, 0, 1, 1)
    aim(made, windows, 1, 1, 3)
    found = find(data, made, windows)
    assert found == {"q0": "tide", "q1": "empty", "q2": "Spring-tide"}


def test_where_nothing_can_be_an_answer_it_is_empty() -> None:
    data, made = one_question("Low tide.", "which " * 30 + "?")
    windows = flat(made)
    windows[0][:20] = 9
    assert find(data, made, windows) == {"q": "empty"}
    windows[0][0] = -10
    windows[0][made.context_start[0]] = 8
    assert find(data, made, windows) == {"q": "Low"}


#: Words of one token each, all different, so that a word's place is its token's.
WORDS = [piece for piece in vocabulary().pieces if piece.isascii() and piece.isalpha()][-700:]


def long_question() -> tuple[Dataset, MlperfFeatures]:
    data, made = one_question(" ".join(WORDS))
    assert list(made.word_of_token) == list(range(700))
    assert list(made.doc_start) == [0, 128, 256, 384]
    return data, made


def test_an_answer_that_crosses_a_window_s_end_is_found_in_the_next() -> None:
    data, made = long_question()
    end = int(made.lengths[0] - made.context_start[0] - 1)
    assert end < 384
    windows = flat(made)
    aim(made, windows, 1, end - 4, end + 4)
    answer = " ".join(WORDS[end - 4 : end + 5])
    assert find(data, made, windows) == {"q": answer}


def test_a_window_answers_only_where_no_other_shows_more_context() -> None:
    data, made = long_question()
    windows = flat(made)
    aim(made, windows, 0, 370, 370)
    assert find(data, made, windows) != {"q": WORDS[370]}
    aim(made, windows, 1, 370, 370)
    assert find(data, made, windows) == {"q": WORDS[370]}


def test_the_best_window_wins_and_the_first_of_equals() -> None:
    data, made = long_question()
    windows = flat(made)
    for sample, place in enumerate([100, 300, 400]):
        aim(made, windows, sample, place, place)
    assert find(data, made, windows) == {"q": WORDS[100]}
    windows[2] += np.float32(0.5)
    assert find(data, made, windows) == {"q": WORDS[400]}


def test_a_question_with_a_missing_window_is_left_out() -> None:
    data, made = pocket(), pocket_features()
    windows = all_logits(made, "normal", 1)
    whole = find(data, made, windows)
    assert list(whole) == [question.id for question in data.questions]

    counts = np.bincount(made.question)
    several = int(np.flatnonzero(counts > 1)[0])
    del windows[int(np.flatnonzero(made.question == several)[-1])]
    del windows[0]
    part = find(data, made, windows)
    left_out = {data.questions[several].id, data.questions[0].id}
    assert part == {key: text for key, text in whole.items() if key not in left_out}


def test_without_logits_only_questions_without_windows_are_answered() -> None:
    questions = (Question("a", "Why?", 0, ("x",)), Question("b", "Why?", 1, ("x",)))
    data = Dataset(("Low tide.", ""), questions)
    made = reading().build(data)
    assert find(data, made, {}) == {"b": "empty"}


@pytest.mark.parametrize("change", ["longer", "shorter", "padded", "one column", "three columns"])
def test_logits_of_another_shape_are_refused_by_sample(change: str) -> None:
    data, made = pocket(), pocket_features()
    windows = all_logits(made, "normal", 1)
    length = int(made.lengths[3])
    windows[3] = {
        "longer": np.zeros((length + 1, 2), np.float32),
        "shorter": np.zeros((length - 1, 2), np.float32),
        "padded": np.zeros((384, 2), np.float32),
        "one column": np.zeros(length, np.float32),
        "three columns": np.zeros((length, 3), np.float32),
    }[change]
    with pytest.raises(SuiteError, match=f"sample 3 has {length} tokens"):
        find(data, made, windows)


any_text = st.text(
    st.characters(exclude_categories=())
    | st.sampled_from("aZ9 .\t\n\x00\u202f\u200b\ufeff\ufffd\ud800\U0001f469\u0301東ßİ☃")
)


@settings(max_examples=200, deadline=None)
@given(
    context=any_text,
    times=st.integers(1, 200),
    question=any_text,
    seed=st.integers(0, 99),
    spoilt=st.none() | st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_any_text_is_answered_from_its_context(
    context: str, times: int, question: str, seed: int, spoilt: float | None
) -> None:
    data, made = one_question(context * times, question)
    windows = all_logits(made, "ties", seed)
    for window in windows.values():
        if spoilt is not None:
            window[:: seed % 7 + 1] = spoilt
    found = find(data, made, windows)["q"]
    assert found == answers.NO_ANSWER or found in " ".join(context_words(context * times))
    assert len(made) or found == answers.NO_ANSWER
    for sample, window in windows.items():
        low, high = made.offsets[sample : sample + 2]
        first = int(made.context_start[sample])
        span = answers.best_span(window[:, 0], window[:, 1], made.max_context[low:high], first)
        assert span is None or first <= span[0] <= span[1] < len(window) - 1


# Questions that may have no answer, by the rule of Hugging Face's run_qa.


def answer_of(
    made: MlperfFeatures,
    data: Dataset,
    windows: dict[int, Logits],
    threshold: float | None,
    texts: Texts | None = None,
) -> answers.Answer:
    texts = texts or reading().texts(data, made)
    found = answers.find(replace(data, version_2=threshold is not None), made, texts, windows)["q"]
    return replace(found, text=found.given(-1e9 if threshold is None else threshold))


@pytest.mark.parametrize(
    ("threshold", "expected"), [(-2.5, ""), (-2.0, "Low"), (0.0, "Low"), (1e9, "Low"), (-1e9, "")]
)
def test_no_answer_wins_if_its_score_is_more_than_the_threshold_above_the_best(
    threshold: float, expected: str
) -> None:
    data, made = one_question("Low tide.")
    windows = flat(made)
    windows[0][:] = 0
    aim(made, windows, 0, 0, 0)
    windows[0][0] = (7, 9)
    assert answer_of(made, data, windows, threshold) == answers.Answer(expected, 18.0, 16.0)
    assert answer_of(made, data, windows, None) == answers.Answer("Low", 18.0)


def test_no_answer_has_the_least_score_of_all_windows() -> None:
    data, made = long_question()
    windows = flat(made)
    aim(made, windows, 1, 300, 300)
    for sample, null in enumerate((30.0, 3.0, 40.0, 20.0)):
        windows[sample][0] = null
    assert answer_of(made, data, windows, 0.0) == answers.Answer(WORDS[300], 18.0, 6.0)
    windows[1][0] = 25
    assert answer_of(made, data, windows, 0.0) == answers.Answer("", 18.0, 40.0)


def test_where_no_span_fits_no_answer_is_compared_with_0() -> None:
    data, made = one_question("Low tide.", "which " * 30 + "?")
    windows = flat(made)
    windows[0][:20] = 9
    assert answer_of(made, data, windows, 0.0) == answers.Answer("", None, 18.0)
    assert answer_of(made, data, windows, 18.0) == answers.Answer("empty", None, 18.0)


def test_a_context_without_a_token_has_no_answer() -> None:
    data, made = one_question("")
    assert answer_of(made, data, {}, 1e9) == answers.Answer("", None, math.inf)
    assert answer_of(made, data, {}, None) == answers.Answer("empty", None)


def test_a_span_without_a_character_is_no_answer_where_there_may_be_none() -> None:
    """Some tokens have no character, such as a blank whose offsets were trimmed."""
    data, made = one_question("Low tide.")
    windows = flat(made)
    aim(made, windows, 0, 1, 1)
    start = int(made.context_start[0])
    windows[0][start + 2] = 5

    def texts(context: int, first: int, last: int) -> str:
        return "" if (first, last) == (1, 1) else f"{context}:{first}-{last}"

    assert answer_of(made, data, windows, 99.0, texts) == answers.Answer("0:1-2", 14.0, -20.0)
    assert answer_of(made, data, windows, None, texts) == answers.Answer("", 18.0)
    assert answer_of(made, data, windows, 99.0, lambda *_: "") == (
        answers.Answer("empty", None, -20.0)
    )


def test_the_only_span_without_a_character_is_empty() -> None:
    data, made = one_question("tide")
    assert answer_of(made, data, flat(made), None, lambda *_: "") == answers.Answer("empty", None)


def test_the_order_of_windows_does_not_matter() -> None:
    data, made = long_question()
    windows = all_logits(made, "ties", 7)
    expected = answer_of(made, data, windows, None)
    order = [2, 0, 3, 1]
    spans = [slice(made.offsets[sample], made.offsets[sample + 1]) for sample in order]
    moved = replace(
        made,
        tokens=np.concatenate([made.tokens[span] for span in spans]),
        offsets=np.concatenate([[0], np.cumsum(made.lengths[order])]),
        max_context=np.concatenate([made.max_context[span] for span in spans]),
        context_start=made.context_start[order],
        doc_start=made.doc_start[order],
    )
    others = {place: windows[sample] for place, sample in enumerate(order)}
    assert answer_of(moved, data, others, None) == expected


def test_the_words_of_all_contexts_are_never_kept_together() -> None:
    contexts = tuple(f"Tree {n} " + " ".join(f"w{n + m}" for m in range(100)) for n in range(4000))
    questions = tuple(Question(str(n), "why?", n, ()) for n in range(len(contexts)))
    data = Dataset(contexts, questions)
    text = reading().texts(data, reading().build(data))
    tracemalloc.start()
    try:
        for n in range(len(contexts)):
            assert text(n, 0, 0) == "Tree"
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 10e6
