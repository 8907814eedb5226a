"""What transformers makes of the questions in tests/golden: windows, answers and scores.

    made/bin/python tools/golden_answers.py tests/golden

Needs the environment of tools/export_families.py, of which the models are. Reads `questions.json`
in that folder and writes `windows.json.gz`, `choices.json`, `metrics.json` and `models.json` beside
it; its README says what is in each.
"""

import gzip
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import export_families
import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers.data.metrics import squad_metrics

#: Maximum length and overlap, in tokens.
SIZES = ((96, 32), (384, 128))
#: Contexts of more characters than this are cut into windows of the greater length alone.
LONG = 600
#: Of `choices.json`: the kind of logits, their seed, and the null threshold or None, which is
#: without version_2_with_negative.
CHOICES = (("normal", 1, None), ("normal", 1, 0.0), ("normal", 1, -1.5), ("peaky", 3, None))
#: Added to both logits of the first token, so that "no answer" wins now and then.
NULL_BONUS = 2.0


@dataclass(frozen=True)
class Asked:
    """One question of `questions.json`."""

    id: str
    question: str
    context: str
    answers: Sequence[Mapping[str, Any]]


def asked(file: Path) -> list[Asked]:
    """All questions of a SQuAD file."""
    return [
        Asked(qa["id"], qa["question"], paragraph["context"], qa["answers"])
        for article in json.loads(file.read_bytes())["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]


def windows(tokenizer: Any, question: Asked, max_length: int, stride: int) -> Any:
    """A question's windows as `run_qa` asks for them, but not padded."""
    return tokenizer(
        question.question.lstrip(),
        question.context,
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )


def all_windows(questions: Sequence[Asked], families: Mapping[str, Any]) -> dict[str, Any]:
    """Family → "length/stride" → question → the tokeniser's arrays, a list for each window."""
    return {
        family: {
            f"{length}/{stride}": {
                question.id: {
                    key: rows
                    for key, rows in windows(tokenizer, question, length, stride).items()
                    if key != "overflow_to_sample_mapping"
                }
                for question in questions
                if (length, stride) != SIZES[0] or len(question.context) <= LONG
            }
            for length, stride in SIZES
        }
        for family, tokenizer in families.items()
    }


def made_logits(kind: str, seed: int, window: int, length: int) -> NDArray[np.float32]:
    """Logits [length, 2] that anyone can make again."""
    drawn = np.random.default_rng([seed, window]).standard_normal((length, 2)).astype(np.float32)
    if kind == "peaky":
        drawn = (drawn**3 * 4).astype(np.float32)
    drawn[0] += np.float32(NULL_BONUS)
    return drawn


def words_of(context: str) -> tuple[list[str], dict[int, int]]:
    """The words between a context's white space, and for each character the word it is in."""
    found = list(re.finditer(r"\S+", context))
    owner = {at: index for index, word in enumerate(found) for at in range(*word.span())}
    return [word[0] for word in found], owner


def features_of(tokenizer: Any, questions: Sequence[Asked]) -> Iterator[tuple[Any, Any]]:
    """The windows of 96 tokens as squad_metrics wants them, and their offsets.

    An answer may start at every token of the context, as in `run_qa`.
    """
    unique = 0
    for index, question in enumerate(questions):
        made = windows(tokenizer, question, *SIZES[0])
        _, owner = words_of(question.context)
        for row, offsets in enumerate(made["offset_mapping"]):
            second = [part == 1 for part in made.sequence_ids(row)]
            places = [at for at, is_context in enumerate(second) if is_context]
            feature = SimpleNamespace(
                unique_id=unique,
                example_index=index,
                tokens=made.tokens(row),
                token_to_orig_map={at: owner[offsets[at][0]] for at in places},
                token_is_max_context=dict.fromkeys(places, True),
            )
            yield feature, offsets
            unique += 1


def choices(tokenizer: Any, questions: Sequence[Asked]) -> list[dict[str, Any]]:
    """What `compute_predictions_logits` answers to made logits."""
    pairs = list(features_of(tokenizer, questions))
    features, offsets = zip(*pairs, strict=True)
    examples = [
        SimpleNamespace(qas_id=one.id, doc_tokens=words_of(one.context)[0]) for one in questions
    ]
    out = []
    for kind, seed, threshold in CHOICES:
        logits = [made_logits(kind, seed, at, len(f.tokens)) for at, f in enumerate(features)]
        results = [
            SimpleNamespace(unique_id=at, start_logits=a.tolist(), end_logits=b.tolist())
            for at, (a, b) in enumerate(array.T for array in logits)
        ]
        nbest, nulls, texts = answered(examples, features, results, threshold, tokenizer)
        answers = {}
        for index, one in enumerate(questions):
            mine = [at for at, feature in enumerate(features) if feature.example_index == index]
            answers[one.id] = {
                "text": texts[one.id],
                "by_offsets": texts[one.id]
                and by_offsets(one, mine, offsets, logits, best(nbest[one.id])),
                "score": score(best(nbest[one.id])),
                "null_minus_score": nulls.get(one.id),
            }
        out.append({"logits": kind, "seed": seed, "null_threshold": threshold, "answers": answers})
    return out


def answered(
    examples: Sequence[Any],
    features: Sequence[Any],
    results: Sequence[Any],
    threshold: float | None,
    tokenizer: Any,
) -> tuple[Any, Any, Any]:
    """The n best answers, the null score less the best score (v2.0), and the answers' texts."""
    with tempfile.TemporaryDirectory() as folder:
        nbest, nulls = Path(folder) / "nbest.json", Path(folder) / "nulls.json"
        texts = squad_metrics.compute_predictions_logits(
            examples,
            features,
            results,
            n_best_size=20,
            max_answer_length=30,
            do_lower_case=False,
            output_prediction_file=None,
            output_nbest_file=str(nbest),
            output_null_log_odds_file=str(nulls),
            verbose_logging=False,
            version_2_with_negative=threshold is not None,
            null_score_diff_threshold=threshold,
            tokenizer=tokenizer,
        )
        log_odds = json.loads(nulls.read_bytes()) if threshold is not None else {}
        return json.loads(nbest.read_bytes()), log_odds, dict(texts)


def best(entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The first of the n best with a text."""
    return next(entry for entry in entries if entry["text"])


def score(entry: Mapping[str, Any]) -> float:
    """The sum of an answer's two logits."""
    return float(entry["start_logit"] + entry["end_logit"])


def by_offsets(
    question: Asked,
    mine: Sequence[int],
    offsets: Sequence[Any],
    logits: Sequence[NDArray[np.float32]],
    entry: Mapping[str, Any],
) -> str:
    """An answer cut from the context at its tokens' character offsets.

    Its tokens are those of the question's windows (`mine`) that have the answer's logits.
    """
    (text,) = {
        question.context[offsets[at][start][0] : offsets[at][end][1]]
        for at in mine
        for start in np.flatnonzero(logits[at][:, 0] == np.float32(entry["start_logit"]))
        for end in np.flatnonzero(logits[at][:, 1] == np.float32(entry["end_logit"]))
    }
    return text


#: Of `metrics.json`: answers, the answer given, and how probable "no answer" was held.
RATED: Mapping[str, tuple[Sequence[str], str, float]] = {
    "right": (["the flood of 1911", "1911"], "The flood of 1911!", 0.1),
    "half": (["Zoë Ångström"], "Zoë", 0.2),
    "one-of-two": (["crème brûlée", "a dessert"], "an old dessert", 0.4),
    "wrong": (["1782"], "1911", 0.55),
    "silent": (["江戸"], "", 0.9),
    "other-script": (["约1400万人"], "约1400万人", 0.3),
    "article-alone": (["The"], "", 0.35),
    "article-given": (["The", "a wheel"], "the", 0.45),
    "article-for-answer": (["a wheel"], "the", 0.6),
    "punctuation": (["o'clock"], "oclock", 0.05),
    "none-and-silent": ([], "", 0.95),
    "none-but-answered": ([], "the mill", 0.65),
    "none-but-article": ([], "a", 0.15),
    "none-and-doubtful": ([], "", 0.5),
    "none-but-sure": ([], "1538", 0.02),
}


def metrics() -> dict[str, Any]:
    """What `squad_evaluate` says of RATED, without and with the probabilities of no answer."""
    examples = [
        SimpleNamespace(qas_id=name, answers=[{"text": text} for text in answers])
        for name, (answers, _, _) in RATED.items()
    ]
    given = {name: text for name, (_, text, _) in RATED.items()}
    probable = {name: share for name, (_, _, share) in RATED.items()}
    evaluate = squad_metrics.squad_evaluate
    answerable = [example for example in examples if example.answers]
    return {
        "questions": {
            name: {"answers": answers, "given": text, "no_answer_probability": share}
            for name, (answers, text, share) in RATED.items()
        },
        "plain": evaluate(examples, given),
        "with_probabilities": evaluate(examples, given, probable),
        "with_threshold": {
            "threshold": 0.5,
            **evaluate(examples, given, probable, no_answer_probability_threshold=0.5),
        },
        "answerable_alone": evaluate(
            answerable, {one.qas_id: given[one.qas_id] for one in answerable}
        ),
    }


def of_models(questions: Sequence[Asked]) -> dict[str, Any]:
    """Family → what PyTorch's model answers, and its logits for one window."""
    found = {}
    for name, family in export_families.FAMILIES.items():
        with tempfile.TemporaryDirectory() as folder:
            model, tokenizer = export_families.make(family, Path(folder) / name)
        # Changes the tokeniser's settings for good, so the pipeline comes after.
        whole = [one for one in questions if len(windows(tokenizer, one, *SIZES[1]).input_ids) == 1]
        first = tokenizer(whole[0].question, whole[0].context, return_tensors="pt")
        with torch.no_grad():
            logits = model(**first)
        ask = transformers.pipeline(
            "question-answering", model=model, tokenizer=tokenizer, device="cpu"
        )
        answers = {}
        for one in whole:
            answer = ask(
                question=one.question.lstrip(),
                context=one.context,
                max_seq_len=384,
                doc_stride=128,
                max_answer_len=30,
                align_to_words=False,
            )
            if within_best(model, windows(tokenizer, one, *SIZES[1]), answer):
                answers[one.id] = {key: answer[key] for key in ("answer", "start", "end")}
        found[name] = {
            "answers": answers,
            "question": whole[0].id,
            "start_logits": rounded(logits.start_logits[0]),
            "end_logits": rounded(logits.end_logits[0]),
        }
    return found


def within_best(model: Any, made: Any, answer: Mapping[str, Any]) -> bool:
    """Whether an answer is among those that 20 best starts and 20 best ends make.

    The pipeline looks at all pairs.
    """
    names = ("input_ids", "attention_mask", "token_type_ids")
    with torch.no_grad():
        logits = model(**{name: torch.tensor(made[name]) for name in names if name in made})
    offsets = made["offset_mapping"][0]
    starts = {offsets[at][0] for at in logits.start_logits[0].argsort(descending=True)[:20]}
    ends = {offsets[at][1] for at in logits.end_logits[0].argsort(descending=True)[:20]}
    return answer["start"] in starts and answer["end"] in ends


def rounded(logits: Any) -> list[float]:
    """Six digits after the point: more than two runtimes agree on."""
    return [round(float(one), 6) for one in logits]


def write(file: Path, content: object) -> None:
    """JSON, packed if the name ends so; the same bytes each time."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    if file.suffix == ".gz":
        file.write_bytes(gzip.compress(text.encode(), mtime=0))
    else:
        file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")
    print(f"{file}: {file.stat().st_size} bytes")


def main(folder: Path) -> None:
    """Write all of it to `folder`, which holds `questions.json`."""
    questions = asked(folder / "questions.json")
    kept = Path(__file__).resolve().parents[1] / "tests" / "families" / "optimum"
    families = {
        name: transformers.AutoTokenizer.from_pretrained(kept / name)
        for name in export_families.FAMILIES
    }
    write(folder / "windows.json.gz", all_windows(questions, families))
    write(folder / "choices.json", choices(families["bert_cased"], questions))
    write(folder / "metrics.json", metrics())
    write(folder / "models.json", of_models(questions))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
