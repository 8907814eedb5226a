"""A run's answers beside others to the same questions, which tell how hard these are.

On a few questions F1 says little: luck decides how hard they are. What two models lose against each
other there says more, since both meet the same questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from bertsquad.results.statistics import half_width

#: Where the answers that a run is compared with come from: those of the same model that are kept
#: with the suite, those of another model that are kept with it, or the fp32 run of the model
#: earlier in the pytest session.
KNOWN, BUNDLED, SESSION = SOURCES = "known", "bundled", "session"

#: A subset fails only if it is so sure that the target is missed, and isn't called passed if it is
#: still that likely.
CONFIDENCE, LIKELY = 0.999, 0.95
#: With fewer questions in a subset, single ones decide.
FEWEST = 5
#: How many of the questions whose F1 differs are told.
MOST_TOLD = 5


@dataclass(frozen=True)
class Pair:
    """Answers of `model` in fp32: the F1 (0 to 1) of each question, by its id.

    `whole_f1` is what they reach on the whole data set, in per cent; None where nobody knows, so
    that only the same questions count.
    """

    source: str
    model: str
    f1: Mapping[str, float]
    whole_f1: float | None = None


@dataclass(frozen=True)
class Difference:
    """A question whose F1 (0 to 1) isn't that of the reference."""

    question: str
    reference_f1: float
    f1: float


@dataclass(frozen=True)
class Reference:
    """What another run's answers to the same questions say about a run; figures are in per cent.

    `f1` is theirs on these questions, and `difference` how much of it the run lacks (negative where
    it has more), give or take `half_width` with 99.9 % confidence on one side, `half_width_95` with
    95 %. `estimate` is what that makes of the run's F1 on the whole data set; on these questions
    alone where `source` is `session` and no reference F1 is known. `differing` questions have
    another F1 than the reference; `first` are some of them, in the data set's order.
    """

    source: str
    model: str
    questions: int
    f1: float
    difference: float
    half_width: float
    half_width_95: float
    estimate: float
    differing: int
    first: list[Difference]

    @property
    def bound(self) -> float:
        """The most that F1 may be on the whole data set, with 99.9 % confidence."""
        return min(100.0, self.estimate + self.half_width)

    @property
    def likely_bound(self) -> float:
        """The same with 95 % confidence."""
        return min(100.0, self.estimate + self.half_width_95)

    @property
    def named(self) -> str:
        """Whose answers these are, for messages."""
        return f"{self.model}'s {_WHOSE[self.source]}"

    @property
    def figures(self) -> str:
        """The F1 of the reference and the paired difference, for messages."""
        return (
            f"{self.f1:.1f} (paired, {self.difference:.1f} ± {self.half_width:.1f} over "
            f"{self.questions} questions)"
        )


_WHOSE = {
    KNOWN: "known answers",
    BUNDLED: "answers",
    SESSION: "answers in fp32",
}


def compare(pair: Pair, questions: Sequence[str], f1: Sequence[float]) -> Reference | None:
    """A run's F1 (0 to 1) of each of `questions`, by their ids, beside those of the pair.

    None where the pair lacks a question, or there are fewer than two.
    """
    count = len(questions)
    if count < 2 or any(one not in pair.f1 for one in questions):
        return None
    theirs = [pair.f1[one] for one in questions]
    lacks = [other - own for own, other in zip(f1, theirs, strict=True)]
    lack, reached = 100 * fsum(lacks) / count, 100 * fsum(theirs) / count
    differing = [
        Difference(question, other, own)
        for question, other, own in zip(questions, theirs, f1, strict=True)
        if own != other
    ]
    return Reference(
        source=pair.source,
        model=pair.model,
        questions=count,
        f1=reached,
        difference=lack,
        half_width=100 * half_width(lacks, CONFIDENCE),
        half_width_95=100 * half_width(lacks, LIKELY),
        estimate=(reached if pair.whole_f1 is None else pair.whole_f1) - lack,
        differing=len(differing),
        first=differing[:MOST_TOLD],
    )
