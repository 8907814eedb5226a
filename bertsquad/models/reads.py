"""What a model is fed with. It is told to the worker, so no heavy library is imported here."""

from dataclasses import dataclass

from bertsquad.squad.features import MAX_TOKENS
from bertsquad.squad.layout import MLPERF, Layout


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
