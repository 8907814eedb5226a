"""A model's config.json says how its windows are laid out, and how long they may be."""

import pytest

from bertsquad.models.config import NO_CONFIG, Config, layout_of
from bertsquad.models.reads import MLPERF, Layout

BERT = Config(model_type="bert", pad_token_id=0)
ROBERTA = Config(model_type="roberta", pad_token_id=1)


def test_positions_begin_after_paddings_id_where_the_type_is_robertas() -> None:
    assert layout_of(ROBERTA, None) == Layout(1, 2)
    assert layout_of(Config(model_type="xlm-roberta"), 1) == Layout(1, 2)
    assert layout_of(BERT, 0) == layout_of(NO_CONFIG, None) == MLPERF
    assert layout_of(NO_CONFIG, 50_283) == Layout(50_283, 0)


def test_without_a_config_the_number_of_positions_tells_where_they_begin() -> None:
    assert layout_of(NO_CONFIG, 1, 514) == Layout(1, 2)
    assert layout_of(NO_CONFIG, 1, 4098) == Layout(1, 2)
    assert layout_of(NO_CONFIG, 1, 512) == layout_of(NO_CONFIG, 1, 8192) == Layout(1, 0)
    assert layout_of(NO_CONFIG, 0, 514) == layout_of(BERT, 0, 513) == MLPERF
    assert layout_of(ROBERTA, 1, 512) == Layout(1, 2)


def test_a_config_of_other_types_says_nothing() -> None:
    document = {"model_type": 3, "vocab_size": "30522", "pad_token_id": True, "eos_token_id": [2]}
    assert Config.of(document) == NO_CONFIG


@pytest.mark.parametrize(
    ("model_type", "stated", "positions"),
    [
        ("bert", 512, 512),
        (None, 512, 512),
        ("bert", None, None),
        ("bert", 0, None),
        ("deberta-v2", 512, None),  # it places tokens by their distance
        ("deberta-v2", -1, None),
    ],
)
def test_positions_are_a_limit_where_the_model_has_a_place_for_each(
    model_type: str | None, stated: int | None, positions: int | None
) -> None:
    config = Config(model_type=model_type, max_position_embeddings=stated)
    assert config.positions == positions


def test_the_ids_of_special_tokens_are_berts_or_else_robertas_names() -> None:
    config = Config(pad_token_id=1, bos_token_id=0, eos_token_id=2)
    assert config.special_ids == {"padding": 1, "a window's beginning": 0, "a window's end": 2}
    both = Config(bos_token_id=0, cls_token_id=101, eos_token_id=2, sep_token_id=102)
    assert list(both.special_ids.values()) == [101, 102]
    assert NO_CONFIG.special_ids == {}
