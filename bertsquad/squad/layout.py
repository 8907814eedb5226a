"""How a model wants its windows numbered: its padding's id, and its first position."""

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
