"""What a model is fed with. It is told to the worker, so no heavy library is imported here."""

from dataclasses import dataclass

from bertsquad.squad.features import MAX_TOKENS


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


@dataclass(frozen=True)
class Reads:
    """What a model is fed with: windows of at most `longest` tokens, laid out as `layout` says.

    `highest_id` is the highest id in them, None where it isn't known. `outputs` are the names of
    the outputs with start and end logits, where the user gave them.
    """

    layout: Layout = MLPERF
    longest: int = MAX_TOKENS
    highest_id: int | None = None
    outputs: tuple[str, str] | None = None


#: MLPerf's windows.
AS_MLPERF = Reads()
