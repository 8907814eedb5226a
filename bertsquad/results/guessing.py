"""Whether a model answers no better than by guessing, and what may be the cause.

One that gets wrong ids, or that wasn't trained, answers as random logits do. Where no reference F1
is known, no target shows that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bertsquad.squad import answers
from bertsquad.squad.features import Features
from bertsquad.squad.questions import Dataset, Question
from bertsquad.squad.reading import Texts
from bertsquad.squad.score import score

#: At most so many questions are looked at, each guessed so often; on fewer than the least of them
#: luck decides.
MOST, DRAWS, FEWEST = 200, 5, 10
#: The least share of the way from guessing to all right that isn't called guessing. Seen on pocket:
#: random logits -0.05 to 0.06, MiniLM with wrong ids 0.06 to 0.08, as it is 0.81.
LEAST_SKILL = 0.15
#: F1 in per cent that the logits of start and end gain where they have been mixed up. Seen on
#: pocket: MiniLM's 37 with its outputs in the wrong order.
GAIN = 20


@dataclass(frozen=True)
class Doubt:
    """Why a model may not be the one for its questions, and what to look at."""

    matter: str
    cure: str

    def __str__(self) -> str:
        return f"{self.matter}: {self.cure}"


def doubt(f1: float, swapped: float, guessed: float, questions: int) -> Doubt | None:
    """What to say of a model with this F1, in per cent; None where it seems to be the right one.

    `swapped` is its F1 with start and end the other way round, `guessed` that of random logits, and
    `questions` how many they were measured on.
    """
    if questions < FEWEST:
        return None
    on = f"on the first {questions} questions"
    least = guessed + LEAST_SKILL * (100 - guessed)
    if swapped >= max(f1 + GAIN, least):
        return Doubt(
            f"F1 {f1:.1f} {on} would be {swapped:.1f} with start and end the other way round",
            "look whether the model's outputs are mixed up (--outputs)",
        )
    if f1 >= least:
        return None
    return Doubt(
        f"F1 {f1:.1f} {on} is about what guessing gives ({guessed:.1f})",
        "look whether the model has its own tokeniser and vocabulary (--tokenizer; cased or "
        "uncased), whether it was trained to answer questions, and whether the questions are in "
        "its language",
    )


def look(
    dataset: Dataset,
    features: Features,
    texts: Texts,
    questions: Sequence[Question],
    logits: Mapping[int, NDArray[np.float32]],
) -> Doubt | None:
    """The doubt about the logits of a run, in which `questions` were run wholly, in file order."""
    looked = [one for one in questions if one.answers][:MOST]
    if len(looked) < FEWEST:
        return None
    ids = {one.id for one in looked}
    asked = np.array([n for n, one in enumerate(dataset.questions) if one.id in ids])
    # What comes behind the last of them isn't walked through.
    first = replace(dataset, questions=dataset.questions[: asked[-1] + 1])
    samples = np.flatnonzero(np.isin(features.question, asked)).tolist()

    def f1(of_samples: Mapping[int, NDArray[np.float32]]) -> float:
        found = answers.find(first, features, texts, of_samples)
        # The best spans count, even where no answer would be better.
        return score({one.id: found[one.id].text for one in looked}, looked).f1

    rng, lengths = np.random.default_rng(0), features.lengths
    draws = (
        {sample: rng.standard_normal((lengths[sample], 2), np.float32) for sample in samples}
        for _ in range(DRAWS)
    )
    guessed = float(np.mean([f1(draw) for draw in draws]))
    given = {sample: logits[sample] for sample in samples}
    swapped = {sample: one[:, ::-1] for sample, one in given.items()}
    return doubt(f1(given), f1(swapped), guessed, len(looked))
