"""Whether a tokeniser and a model belong together, as far as their sizes and numbers say.

A model that reads the ids of another's vocabulary fails on the first id that it doesn't have, or
runs to the end and answers nonsense. What is known of both is compared before anything runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bertsquad.models.reads import Layout

#: How many more rows an embedding may have than its vocabulary has ids: tables are filled up to a
#: multiple of 128 (ModernBERT: 50,368 rows for 50,283 ids) or hold reserve (DeBERTa-v3: 128,100
#: for 128,001; mDeBERTa-v3: 251,000 for 250,102, which is one in 279).
MOST_SPARE = 127
SPARE_SHARE = 200

#: Which tokenisers the models of a type have, by `model_type` of config.json, as `tokenizers` names
#: them (transformers/models/auto/tokenization_auto.py).
KINDS: Mapping[str, str] = {
    **dict.fromkeys(
        """bert convbert distilbert electra ernie funnel layoutlm lxmert megatron-bert mobilebert
        mpnet nezha retribert splinter squeezebert tapas""".split(),
        "WordPiece",
    ),
    **dict.fromkeys(
        """bart data2vec-text deberta ibert led longformer modernbert mvp roberta
        roberta-prelayernorm""".split(),
        "BPE",
    ),
    **dict.fromkeys(
        "albert camembert deberta-v2 mbart xlm-roberta xlm-roberta-xl xlnet".split(),
        "Unigram",
    ),
}

#: Types whose models count positions from the id of padding plus 1, as RoBERTa does.
AFTER_PADDING = frozenset(
    """camembert data2vec-text ibert lilt longformer luke mpnet roberta roberta-prelayernorm
    xlm-roberta xlm-roberta-xl xmod""".split()
)

#: Models read a multiple of so many tokens at most.
ROUND = 128

#: Types whose models place tokens by their distance, and may read more than config.json says.
RELATIVE = frozenset(("deberta", "deberta-v2", "xlnet"))


@dataclass(frozen=True)
class Tables:
    """The rows of a model's embeddings of words, positions and segments; None: not known.

    An id, a position or a segment must be less.
    """

    words: int | None = None
    positions: int | None = None
    segments: int | None = None


@dataclass(frozen=True)
class Tokens:
    """What is known of a tokeniser, whose file or folder is `source`.

    `size` is the number of its ids with those of added tokens, `highest_id` the highest of these.
    `kind` is WordPiece, BPE or Unigram; `special_ids` are those of its special tokens, `padding_id`
    among them. `segments` says that it makes segments of 1.
    """

    source: str
    kind: str
    size: int
    highest_id: int
    padding_id: int | None = None
    special_ids: frozenset[int] = frozenset()
    segments: bool = False


@dataclass(frozen=True)
class Config:
    """What config.json says of a model, None where it doesn't."""

    model_type: str | None = None
    vocab_size: int | None = None
    max_position_embeddings: int | None = None
    type_vocab_size: int | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    cls_token_id: int | None = None
    sep_token_id: int | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Config":
        """The facts in the JSON of a config.json; those of another type are left out."""
        name = document.get("model_type")
        numbers = {
            key: value
            for key in cls.__dataclass_fields__
            if key != "model_type" and type(value := document.get(key)) is int
        }
        return cls(model_type=name if isinstance(name, str) else None, **numbers)


#: What is known of a model without config.json.
NO_CONFIG = Config()


def layout_of(config: Config, padding_id: int | None, positions: int | None = None) -> Layout:
    """How a model of this config.json wants its windows laid out.

    `padding_id` is the tokeniser's, None where it has none, `positions` are the rows of the model's
    table of positions, if known. What none of these says is as with BERT.
    """
    padding = _first(config.pad_token_id, padding_id, 0) or 0
    after = config.model_type in AFTER_PADDING
    if config.model_type is None and positions is not None and positions % ROUND:
        after = (positions - padding - 1) % ROUND == 0  # RoBERTa has 514 of them for 512 tokens
    return Layout(padding, padding + 1 if after else 0)


def why_too_small(tables: Tables, highest_id: int | None, longest: int, first: int) -> str | None:
    """Why a model can't read ids up to `highest_id` or windows of `longest` tokens; None if it can.

    `first` is the position of a window's first token. It is a clause that follows the model's name.
    """
    if highest_id is not None and tables.words is not None and highest_id >= tables.words:
        return (
            f"has embeddings of {tables.words:,} ids, but the windows hold ids up to "
            f"{highest_id:,}, so its vocabulary is another one: give the model's own tokeniser as "
            "--tokenizer DIR"
        )
    if tables.positions is not None and first + longest > tables.positions:
        return (
            f"has embeddings of {tables.positions - first:,} positions, but the windows have up to "
            f"{longest:,} tokens: give --max-length {tables.positions - first}"
        )
    return None


def why_mismatch(
    tables: Tables, tokens: Tokens, config: Config, layout: Layout, longest: int
) -> str | None:
    """Why a tokeniser and a model don't belong together; None if nothing speaks against it.

    It is a clause that follows the model's name, with what to do. What isn't known speaks against
    nothing.
    """
    cure = "give the model's own tokeniser as --tokenizer DIR"
    has = f"{tokens.source} has {tokens.size:,} ids"
    if tables.words and config.vocab_size and not _fits(tables.words, config.vocab_size):
        return (
            f"has embeddings of {tables.words:,} ids, but config.json beside it says "
            f"{config.vocab_size:,}, so it is of another model: give a folder whose files belong "
            "together"
        )
    rows = tables.words or config.vocab_size
    if rows is not None and not _fits(rows, max(tokens.size, tokens.highest_id + 1)):
        return f"has embeddings of {rows:,} ids, but {has}, so it is another model's: {cure}"
    stated = _stated(config)
    wrong = {
        name: number
        for name, number in stated.items()
        if number not in tokens.special_ids or (name == "padding" and number != tokens.padding_id)
        if name != "padding" or tokens.padding_id is not None
    }
    if wrong and tokens.special_ids:
        name, number = next(iter(wrong.items()))
        found = tokens.padding_id if name == "padding" else sorted(tokens.special_ids)
        return (
            f"has the id {number} for {name} in its config.json, but {tokens.source} has {found}, "
            f"so it is another model's: {cure}"
        )
    expected = KINDS.get(config.model_type or "")
    # Some of these types were trained with another kind of tokeniser; then their numbers agree.
    if expected is not None and expected != tokens.kind and len(stated) < 2:
        return (
            f"is of the type {config.model_type}, which reads {expected} tokens, but "
            f"{tokens.source} makes {tokens.kind} ones, so it is another model's: {cure}"
        )
    if tokens.segments and (tables.segments or 2) < 2:
        return (
            f"knows one kind of segments, but {tokens.source} makes two, so it is another "
            f"model's: {cure}"
        )
    most = config.max_position_embeddings
    if most is not None and most > 0 and config.model_type not in RELATIVE:
        told = Tables(positions=min(most, tables.positions or most))
        return why_too_small(told, None, longest, layout.first_position)
    return why_too_small(tables, None, longest, layout.first_position)


def _fits(rows: int, ids: int) -> bool:
    """Whether a table of so many rows may be that of a vocabulary with so many ids."""
    return 0 <= rows - ids <= max(MOST_SPARE, rows // SPARE_SHARE)


def _stated(config: Config) -> dict[str, int]:
    """The ids of special tokens that config.json names, by what they are for."""
    found = {
        "padding": config.pad_token_id,
        "a window's beginning": _first(config.cls_token_id, config.bos_token_id),
        "a window's end": _first(config.sep_token_id, config.eos_token_id),
    }
    return {name: number for name, number in found.items() if number is not None}


def _first(*numbers: int | None) -> int | None:
    return next((one for one in numbers if one is not None), None)
