"""From a model to the reading that fits it, or a sentence that says why none does.

The suite's own models are read by MLPerf's rules. A model of the user's own is looked at in the
pytest process, before anything runs: its graph, its tokeniser, its `config.json`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bertsquad.errors import SuiteError
from bertsquad.models.config import NO_CONFIG, Config, layout_of
from bertsquad.models.matching import Tokens, most_tokens, why_mismatch
from bertsquad.models.reads import AS_MLPERF, MLPERF, Reads
from bertsquad.models.zoo import Model
from bertsquad.squad import tokeniser
from bertsquad.squad.hugging_face import HuggingFaceReading
from bertsquad.squad.mlperf import mlperf_reading
from bertsquad.squad.reading import Reading
from bertsquad.squad.tokeniser import Tokeniser

if TYPE_CHECKING:
    from bertsquad.models.signature import Signature


@dataclass(frozen=True)
class Fitted:
    """How a model is read: what makes its windows, and what it `reads`.

    It `asks` where its graph doesn't tell which outputs are start and end. `facts` are those of its
    own tokeniser for a result, None where it is read as MLPerf says.
    """

    reading: Reading
    reads: Reads
    asks: bool = False
    facts: dict[str, Any] | None = None


def fit(
    model: Model,
    max_length: int | None = None,
    doc_stride: int | None = None,
    outputs: tuple[str, str] | None = None,
) -> Fitted:
    """The reading of a model; SuiteError where its tokeniser can't be its own.

    `max_length` and `doc_stride` are for a tokeniser of its own, `outputs` for the user's model.
    """
    if model.path is None:
        return Fitted(mlperf_reading(), AS_MLPERF)
    # It imports onnx, which most runs don't need.
    from bertsquad.models.signature import examine, refuse_short

    # How long windows are is not known yet, but any has a token.
    signature, _ = examine(model.path, Reads(longest=1, outputs=outputs))
    config = NO_CONFIG if model.config is None else Config.load(model.config)
    reading: Reading
    facts = None
    if model.tokeniser is None:
        reading = mlperf_reading()
        size = len(reading.vocabulary.pieces)
        tokens = Tokens(
            "BERT's uncased vocabulary, which is taken where none lies beside the model,",
            "WordPiece",
            size,
            size - 1,
        )
        layout = MLPERF
    else:
        own = tokeniser.load(model.tokeniser)
        layout = layout_of(config, own.padding_id, signature.tables.positions)
        limit = _limit(signature, config, layout.first_position)
        reading = HuggingFaceReading(own, max_length, doc_stride, limit)
        tokens = _tokens(own)
        facts = {
            "file": str(own.source),
            "checksum": own.digest,
            "max_length": reading.max_length,
            "doc_stride": reading.doc_stride,
        }
    longest = reading.max_length
    reason = why_mismatch(signature.tables, tokens, config, layout, longest)
    if reason is not None:
        raise SuiteError(f"{model.path} {reason}")
    refuse_short(model.path, signature.length, longest)
    reads = Reads(layout, longest, outputs=outputs)
    return Fitted(reading, reads, bool(signature.candidates), facts)


def _tokens(own: Tokeniser) -> Tokens:
    """What is known of a tokeniser, for the comparison with a model."""
    frame = own.frame
    special = {*frame.before, *frame.between, frame.after, own.padding_id}
    added = own.library.get_added_tokens_decoder()
    special |= {number for number, token in added.items() if token.special}
    return Tokens(
        str(own.source),
        own.kind,
        own.library.get_vocab_size(with_added_tokens=True),
        own.vocabulary_size - 1,
        own.padding_id,
        frozenset(number for number in special if number is not None),
        frame.segment is not None,
    )


def _limit(signature: "Signature", config: Config, first_position: int) -> int | None:
    """The most tokens of a window that the model takes; None where that isn't known."""
    limits = signature.length, most_tokens(signature.tables, config, first_position)
    return min((limit for limit in limits if limit is not None and limit > 0), default=None)
