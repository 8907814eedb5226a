"""A tokeniser that isn't the model's own is refused with a sentence that says what to give."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsquad.models.config import NO_CONFIG, Config
from bertsquad.models.matching import Tables, Tokens, why_mismatch, why_too_small
from bertsquad.models.reads import MLPERF, Layout

UNCASED = Tokens(
    *("vocab.txt", "WordPiece", 30_522, 30_521),
    padding_id=0,
    special_ids=frozenset((0, 100, 101, 102, 103)),
    segments=True,
)
CASED = replace(UNCASED, size=28_996, highest_id=28_995)
ROBERTA = Tokens(
    *("tokenizer.json", "BPE", 50_265, 50_264),
    padding_id=1,
    special_ids=frozenset((0, 1, 2, 3, 50_264)),
)
XLM_R = replace(ROBERTA, kind="Unigram", size=250_002, highest_id=250_001)

BERT_CONFIG = Config.of(
    {
        "model_type": "bert",
        "vocab_size": 30_522,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "pad_token_id": 0,
    }
)
ROBERTA_CONFIG = Config.of(
    {
        "model_type": "roberta",
        "vocab_size": 50_265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "layer_norm_eps": 1e-5,
        "classifier_dropout": None,
    }
)
AFTER_PADDING = Layout(1, 2)


def mismatch(
    rows: int | None,
    tokens: Tokens,
    config: Config = NO_CONFIG,
    layout: Layout = MLPERF,
    longest: int = 384,
    **tables: int,
) -> str | None:
    return why_mismatch(Tables(rows, **tables), tokens, config, layout, longest)


@pytest.mark.parametrize(
    ("rows", "tokens", "config", "layout"),
    [
        (30_522, UNCASED, BERT_CONFIG, MLPERF),
        (None, UNCASED, BERT_CONFIG, MLPERF),
        (30_522, UNCASED, NO_CONFIG, MLPERF),
        (None, UNCASED, NO_CONFIG, MLPERF),
        (30_528, UNCASED, NO_CONFIG, MLPERF),  # filled up to a multiple of 8
        (30_592, UNCASED, NO_CONFIG, MLPERF),  # of 128
        (50_265, ROBERTA, ROBERTA_CONFIG, AFTER_PADDING),
        (50_368, replace(ROBERTA, size=50_283, highest_id=50_282), NO_CONFIG, MLPERF),
        (128_100, replace(XLM_R, size=128_001, highest_id=128_000), NO_CONFIG, MLPERF),
        (251_000, replace(XLM_R, size=250_102, highest_id=250_101), NO_CONFIG, MLPERF),
        # KLUE's RoBERTa reads WordPiece tokens, and its config.json has their numbers.
        (
            32_000,
            Tokens("a", "WordPiece", 32_000, 31_999, 1, frozenset((0, 1, 2, 3, 4))),
            replace(ROBERTA_CONFIG, vocab_size=32_000),
            AFTER_PADDING,
        ),
    ],
)
def test_a_models_own_tokeniser_fits(
    rows: int | None, tokens: Tokens, config: Config, layout: Layout
) -> None:
    assert mismatch(rows, tokens, config, layout) is None


@pytest.mark.parametrize(
    ("rows", "tokens", "config", "said"),
    [
        # A file of the user's with nothing of a tokeniser beside it.
        (28_996, UNCASED, NO_CONFIG, "28,996 ids, but vocab.txt has 30,522"),
        (50_265, UNCASED, NO_CONFIG, "50,265 ids, but vocab.txt has 30,522"),
        (30_000, UNCASED, NO_CONFIG, "30,000 ids, but vocab.txt has 30,522"),
        # The same where the graph doesn't tell, but config.json does.
        (None, UNCASED, ROBERTA_CONFIG, "50,265 ids, but vocab.txt has 30,522"),
        (30_522, CASED, BERT_CONFIG, "30,522 ids, but vocab.txt has 28,996"),
        (50_265, XLM_R, ROBERTA_CONFIG, "50,265 ids, but tokenizer.json has 250,002"),
        # One added token too many.
        (30_522, replace(UNCASED, size=30_523, highest_id=30_522), BERT_CONFIG, "has 30,523"),
        # Numbers with a gap: what counts is the highest.
        (30_522, replace(UNCASED, highest_id=40_000), BERT_CONFIG, "has 30,522 ids"),
        # Of the same size.
        (
            50_265,
            replace(UNCASED, size=50_265, highest_id=50_264),
            ROBERTA_CONFIG,
            "the id 1 for padding",
        ),
        (
            50_265,
            replace(ROBERTA, special_ids=frozenset((1, 50, 51))),
            ROBERTA_CONFIG,
            "the id 0 for a window's beginning",
        ),
        (
            30_522,
            replace(UNCASED, kind="BPE"),
            BERT_CONFIG,
            "type bert, which reads WordPiece tokens, but vocab.txt makes BPE",
        ),
        (
            50_265,
            replace(UNCASED, size=50_265, highest_id=50_264),
            Config(model_type="roberta"),
            "type roberta, which reads BPE tokens, but vocab.txt makes WordPiece",
        ),
        (28_996, CASED, BERT_CONFIG, "config.json beside it says 30,522"),
    ],
)
def test_another_tokeniser_is_refused(
    rows: int | None, tokens: Tokens, config: Config, said: str
) -> None:
    found = mismatch(rows, tokens, config, AFTER_PADDING)
    assert found is not None
    assert said in found
    assert "give" in found


def test_two_kinds_of_segments_need_two_rows() -> None:
    assert mismatch(30_522, UNCASED, BERT_CONFIG, segments=2) is None
    assert "one kind of segments" in (mismatch(30_522, UNCASED, BERT_CONFIG, segments=1) or "")
    alone = replace(UNCASED, segments=False)
    assert mismatch(30_522, alone, BERT_CONFIG, segments=1) is None


@pytest.mark.parametrize(
    ("config", "tokens", "layout", "tables", "most"),
    [
        (BERT_CONFIG, UNCASED, MLPERF, {}, 512),
        (NO_CONFIG, UNCASED, MLPERF, {"positions": 512}, 512),
        (BERT_CONFIG, UNCASED, MLPERF, {"positions": 400}, 400),
        (ROBERTA_CONFIG, ROBERTA, AFTER_PADDING, {}, 512),
        (ROBERTA_CONFIG, ROBERTA, AFTER_PADDING, {"positions": 514}, 512),
    ],
)
def test_longer_windows_than_there_are_positions_are_refused(
    config: Config, tokens: Tokens, layout: Layout, tables: dict[str, int], most: int
) -> None:
    rows = tokens.size
    assert mismatch(rows, tokens, config, layout, most, **tables) is None
    found = mismatch(rows, tokens, config, layout, most + 1, **tables) or ""
    assert f"give --max-length {most}, and the model's own tokeniser" in found


@pytest.mark.parametrize("most", [-1, 512])
def test_models_that_place_tokens_by_distance_have_no_such_limit(most: int) -> None:
    config = Config(model_type="deberta-v2", max_position_embeddings=most)
    assert mismatch(250_002, XLM_R, config, longest=1000) is None


def test_what_the_windows_really_hold_must_be_in_the_tables() -> None:
    assert why_too_small(Tables(100, 50), 99, 48, 2) is None
    assert "ids up to 100" in (why_too_small(Tables(100, 50), 100, 48, 2) or "")
    assert "--max-length 48" in (why_too_small(Tables(100, 50), 99, 49, 2) or "")
    assert why_too_small(Tables(), 10**6, 10**6, 2) is None


def test_a_tokeniser_without_padding_says_nothing_of_its_id() -> None:
    tokens = replace(UNCASED, padding_id=None, special_ids=frozenset((101, 102)))
    assert mismatch(30_522, tokens, BERT_CONFIG) is None


@given(rows=st.integers(1, 300_000), ids=st.integers(1, 300_000))
def test_no_id_is_ever_beyond_the_rows_and_no_vocabulary_far_below(rows: int, ids: int) -> None:
    tokens = Tokens("vocab.txt", "WordPiece", ids, ids - 1)
    fits = mismatch(rows, tokens) is None
    if ids > rows or rows - ids > max(127, rows // 200):
        assert not fits
    if ids <= rows <= ids + 127:
        assert fits
