"""Whether a tokeniser and a model belong together, as far as their sizes and numbers say.

A model that reads the ids of another's vocabulary fails on the first id that it doesn't have, or
runs to the end and answers nonsense. What is known of both is compared before anything runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bertsquad.models.config import Config
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

#: What --max-length asks for, since MLPerf's rules have windows of one length.
WITH_TOKENISER = ", and the model's own tokeniser as --tokenizer DIR if none lies beside it"


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


def most_tokens(tables: Tables, config: Config, first: int) -> int | None:
    """The most tokens that a model has positions for, from `first` on; None if not known."""
    known = [one for one in (tables.positions, config.positions) if one is not None]
    return min(known) - first if known else None


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
            f"{longest:,} tokens: give --max-length {tables.positions - first}{WITH_TOKENISER}"
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
    stated = config.special_ids
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
    first = layout.first_position
    most = most_tokens(tables, config, first)
    told = Tables(positions=None if most is None else first + most)
    return why_too_small(told, None, longest, first)


def _fits(rows: int, ids: int) -> bool:
    """Whether a table of so many rows may be that of a vocabulary with so many ids."""
    return 0 <= rows - ids <= max(MOST_SPARE, rows // SPARE_SHARE)
