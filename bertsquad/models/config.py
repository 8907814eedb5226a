"""What a model's `config.json` says of it, as transformers writes that file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertsquad import typed
from bertsquad.errors import SuiteError
from bertsquad.files import unreadable
from bertsquad.models.reads import Layout

#: Types whose models count positions from the id of padding plus 1, as RoBERTa does.
AFTER_PADDING = frozenset(
    """camembert data2vec-text ibert lilt longformer luke mpnet roberta roberta-prelayernorm
    xlm-roberta xlm-roberta-xl xmod""".split()
)

#: The most tokens that a model reads are a multiple of this.
ROUND = 128

#: Types whose models place tokens by their distance, and may read more than config.json says.
RELATIVE = frozenset(("deberta", "deberta-v2", "xlnet"))


@dataclass(frozen=True)
class Config:
    """What config.json says of a model, None where it doesn't."""

    model_type: str | None = None
    vocab_size: int | None = None
    max_position_embeddings: int | None = None
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

    @classmethod
    def load(cls, path: Path) -> "Config":
        """What the config.json at `path` says; SuiteError where it is no JSON object."""
        try:
            document = typed.parse(path.read_bytes())
        except OSError as error:
            raise unreadable(path, error) from error
        except typed.NotJson as error:
            raise SuiteError(f"{path} is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise SuiteError(f"{path} should hold a JSON object, as transformers writes it")
        return cls.of(document)

    @property
    def positions(self) -> int | None:
        """How many positions the model has; None where it isn't said, or sets no limit."""
        number = self.max_position_embeddings or 0
        return number if number > 0 and self.model_type not in RELATIVE else None

    @property
    def special_ids(self) -> dict[str, int]:
        """The ids of special tokens that it names, by what they are for."""
        found = {
            "padding": self.pad_token_id,
            "a window's beginning": _first(self.cls_token_id, self.bos_token_id),
            "a window's end": _first(self.sep_token_id, self.eos_token_id),
        }
        return {name: number for name, number in found.items() if number is not None}


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


def _first(*numbers: int | None) -> int | None:
    return next((one for one in numbers if one is not None), None)
