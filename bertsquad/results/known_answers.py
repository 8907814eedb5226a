"""What known models answered to known questions: the F1 of each, kept with the suite.

`tools/known_answers.py` makes the files, of a whole run in fp32.
"""

from dataclasses import dataclass
from functools import cache

from bertsquad import typed
from bertsquad.assets import registry
from bertsquad.models.zoo import MODELS, Model
from bertsquad.results.reference import BUNDLED, KNOWN, Pair
from bertsquad.squad.datasets import DATASETS, Data


@dataclass(frozen=True)
class KnownAnswers:
    """The `f1` (0 to 1) of a model's answers in fp32 to a data set's questions, in its order.

    Both are told by their checksums; `made_with` says what calculated.
    """

    model: str
    model_checksum: str
    dataset: str
    dataset_checksum: str
    made_with: str
    f1: tuple[float, ...]

    @property
    def whole_f1(self) -> float:
        """F1 on the whole data set, in per cent, summed one by one as SQuAD's script does."""
        total = 0.0
        for value in self.f1:
            total += value
        return 100.0 * total / len(self.f1)


def find(model: Model, data: Data) -> Pair | None:
    """The model's own answers to a data set if they are kept, or else those of another model.

    A data set is known by its checksum, whatever its file is called. None where no answers are
    kept for it.
    """
    files = registry.entries()
    known = [
        name
        for name, entry in DATASETS.items()
        if entry.file is not None and files[entry.file].checksum == data.checksum
    ]
    if not known or data.left_out is not None:
        return None
    own = MODELS.get(model.name) is model and known[0] in model.answers
    kept = [model] if own else [one for one in MODELS.values() if known[0] in one.answers]
    if not kept:
        return None
    answers = read(kept[0].answers[known[0]])
    questions = [one.id for one in data.dataset.questions]
    f1 = dict(zip(questions, answers.f1, strict=True))
    return Pair(KNOWN if own else BUNDLED, kept[0].name, f1, answers.whole_f1)


@cache
def read(name: str) -> KnownAnswers:
    """The answers in a file of the registry, which has verified it."""
    content = registry.fetch(name, "model").read_bytes()
    return typed.build(KnownAnswers, typed.parse(content), whole=True)
