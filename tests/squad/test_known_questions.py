"""Questions are chosen that show to the token where their answer is."""

import numpy as np
from shared_data import PROJECT, pocket, pocket_features, reading

from bertsquad.squad import known_questions, tokeniser
from bertsquad.squad.hugging_face import HuggingFaceReading

FAMILIES = PROJECT / "tests" / "families" / "optimum"


def test_the_chosen_windows_hold_their_answers_at_the_places_told() -> None:
    dataset, features = pocket(), pocket_features()
    texts = reading().texts(dataset, features)
    chosen = known_questions.choose(dataset, features, texts, "features.npz")
    assert chosen.features == "features.npz"
    assert len(chosen.windows) == known_questions.QUESTIONS
    assert (
        len(set(chosen.windows))
        == len(chosen.starts)
        == len(chosen.ends)
        == known_questions.QUESTIONS
    )
    for window, start, end in zip(chosen.windows, chosen.starts, chosen.ends, strict=True):
        question = dataset.questions[features.question[window]]
        head = int(features.context_start[window])
        assert head <= start < end < features.lengths[window] - 1
        assert features.lengths[window] <= known_questions.MOST_TOKENS
        text = texts(question.context, start - head, end - head)
        assert text == question.answers[0]
        assert np.count_nonzero(features.question == features.question[window]) == 1


def test_windows_too_short_for_a_context_are_known_where_they_hold_the_answer() -> None:
    short = HuggingFaceReading(tokeniser.load(FAMILIES / "bert_uncased"), max_length=128)
    dataset = pocket()
    features = short.build(dataset)
    texts = short.texts(dataset, features)
    chosen = known_questions.choose(dataset, features, texts, "")
    assert len(chosen.windows) == known_questions.QUESTIONS
    assert (
        len({int(features.question[window]) for window in chosen.windows})
        == known_questions.QUESTIONS
    )
    for window, start, end in zip(chosen.windows, chosen.starts, chosen.ends, strict=True):
        question = dataset.questions[features.question[window]]
        head = int(features.context_start[window])
        assert head <= start < end < features.lengths[window] - 1
        before = head - int(features.doc_start[window])
        assert texts(question.context, start - before, end - before) == question.answers[0]


def test_questions_without_an_answer_are_no_known_ones() -> None:
    dataset, features = pocket(), pocket_features()
    chosen = known_questions.choose(dataset, features, lambda *_: "what no context holds", "")
    assert chosen.windows == ()
