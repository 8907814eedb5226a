"""A reading: the way from questions to windows, and from a span of tokens back to text."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from bertsquad.progress import Show, unseen
from bertsquad.squad.features import Features
from bertsquad.squad.questions import Dataset

#: Tells the text of a span: the index of its context, its first and its last token in that.
Texts = Callable[[int, int, int], str]


class Reading(Protocol):
    """A model's way to read questions. Features come from `build` or `load` of the same reading."""

    @property
    def key(self) -> str:
        """What it does, in a digest: its files' content and its settings. Names cached features."""

    @property
    def max_length(self) -> int:
        """The most tokens that a window may have."""

    def build(self, dataset: Dataset, show: Show = unseen) -> Features:
        """Cut all questions of a data set into windows."""

    def load(self, path: Path) -> Features:
        """What `build` made, from the file that `features.save` wrote; errors as it has."""

    def texts(self, dataset: Dataset, features: Features) -> Texts:
        """What tells the text of a span of the tokens of these features."""
