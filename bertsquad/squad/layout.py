"""How a model wants its windows numbered: its padding's id, and its first position."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """What fills a window up, and where its positions begin; as MLPerf's BERT has them.

    `padding_id` is the id of padding. Where `first_position` isn't 0, positions are counted as
    Hugging Face's RoBERTa does (`create_position_ids_from_input_ids`): real tokens from
    `first_position` on, and all padding stands at the position `padding_id`.
    """

    padding_id: int = 0
    first_position: int = 0


#: MLPerf's.
MLPERF = Layout()

#: The model types of transformers that count positions from their padding's id plus 1.
_FROM_PADDING = frozenset(
    """camembert data2vec-text esm ibert layoutlmv3 lilt longformer luke markuplm mpnet roberta
    roberta-prelayernorm xlm-roberta xlm-roberta-xl xmod""".split()
)


def layout_of(config: Mapping[str, object], padding_id: int | None) -> Layout:
    """The layout of the model that `config`, its `config.json`, is of.

    `padding_id` is the tokeniser's, which counts where the model doesn't say its own.
    """
    own = _number(config, "pad_token_id")
    padding = own if own is not None else padding_id or 0
    return Layout(padding, padding + 1 if config.get("model_type") in _FROM_PADDING else 0)


def longest_window(config: Mapping[str, object], layout: Layout) -> int | None:
    """The most tokens for which a model has positions; None where `config` knows no limit."""
    positions = _number(config, "max_position_embeddings")
    if not positions or config.get("position_biased_input") is False:  # DeBERTa's are relative
        return None
    return max(positions - layout.first_position, 0)


def _number(config: Mapping[str, object], name: str) -> int | None:
    """A number that isn't below 0, as some models have theirs where they have none."""
    found = config.get(name)
    return found if isinstance(found, int) and found >= 0 and found is not True else None
