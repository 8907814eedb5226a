"""How much of a SQuAD file can be answered by lexical overlap alone.

    python tools/lexical_overlap.py bertsquad/pocket/pocket-v1.1.json

No model is used. Of each context the sentence is chosen that shares most content words with the
question (rare words count more); the answer is its longest run of words that the question doesn't
have. Printed are how often that sentence holds an answer, the exact match and the F1 of these
answers, and the mean share of a question's content words that stand in the sentence of the right
answer.
"""

import math
import re
import sys
from collections import Counter
from pathlib import Path

from bertsquad.squad import questions
from bertsquad.squad.score import score

_STOP = frozenset(
    """a an the of in on at to for from by with and or but as is was were are be been it its that
    this these those which who whom whose what when where why how did do does had has have not he
    she they his her their there than then into after before during also about such can could
    would will many much long far often""".split()
)


def content_words(text: str) -> set[str]:
    """The lower-cased words of `text` that carry meaning."""
    return {word for word in re.findall(r"\w+", text.lower()) if word not in _STOP}


def sentences(context: str) -> list[str]:
    """`context` cut after each full stop, question mark or exclamation mark."""
    return re.split(r"(?<=[.!?])\s+", context)


def longest_foreign_run(sentence: str, known: set[str]) -> str:
    """The longest run of words in `sentence` that are neither in `known` nor stop words."""
    best: list[str] = []
    run: list[str] = []
    for word in sentence.split():
        if content_words(word) - known:
            run.append(word)
            best = max(best, run, key=len)
        else:
            run = []
    return " ".join(best)


def main(path: Path) -> None:
    """Print the figures for one file."""
    dataset = questions.load(path)
    hits, predictions, shares = 0, {}, []
    for question in dataset.questions:
        candidates = sentences(dataset.contexts[question.context])
        known = content_words(question.text)
        sentences_with = Counter(word for s in candidates for word in content_words(s))
        weight = {w: math.log(1 + len(candidates) / n) for w, n in sentences_with.items()}
        chosen = max(candidates, key=lambda s: sum(weight[w] for w in known & content_words(s)))
        hits += any(answer in chosen for answer in question.answers)
        predictions[question.id] = longest_foreign_run(chosen, known)
        holding = [s for s in candidates if question.answers[0] in s]
        if known and holding:
            shares.append(max(len(known & content_words(s)) / len(known) for s in holding))
    scored = score(predictions, dataset.questions)
    print(f"questions                                {scored.total}")
    print(f"sentence of most overlap holds an answer {100 * hits / scored.total:.1f} %")
    print(f"exact match of the overlap baseline      {scored.exact_match:.1f} %")
    print(f"F1 of the overlap baseline               {scored.f1:.1f} %")
    print(f"question's words in the answer's sentence {100 * sum(shares) / len(shares):.1f} %")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
