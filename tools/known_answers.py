r"""Keeps the F1 of each answer of a known model, of which the suite judges subsets.

    pytest benchmarks --model minilm --dataset squad --dataset-size all --device cpu \
        -k "offline and accuracy" --output answers
    python tools/known_answers.py answers/accuracy-minilm-squad-offline-cpu-fp32 \
        bertsquad/pocket/minilm-on-squad.json

The run must be a whole one in fp32, of a model and a data set that the suite knows. What is written
gets a line with its checksum in data_registry.txt, its size in SIZES of
bertsquad/assets/registry.py, and its name in `answers` of the model's row in
bertsquad/models/zoo.py. That of MLPerf's BERT-large needs its file of 1.34 GB.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from bertsquad import typed
from bertsquad.errors import SuiteError
from bertsquad.models.zoo import MODELS
from bertsquad.results.document import result_in
from bertsquad.results.known_answers import KnownAnswers
from bertsquad.results.predictions import PREDICTIONS
from bertsquad.squad import datasets, questions
from bertsquad.squad.datasets import DATASETS
from bertsquad.squad.score import score


def answers_of(folder: Path) -> KnownAnswers:
    """The F1 of each answer in a finished run's folder; SuiteError if it isn't what it must be."""
    result = result_in(folder)
    if not (result.mode == "accuracy" and result.whole and result.precision == "fp32"):
        raise SuiteError(f"expected the folder of a whole accuracy run in fp32, got {result.what}")
    if result.model not in MODELS or result.dataset not in DATASETS:
        raise SuiteError(f"expected a model and a data set that the suite knows, got {result.what}")
    file, checksum = datasets.locate(DATASETS[result.dataset])
    given = typed.parse((folder / PREDICTIONS).read_bytes())
    scored = score(given, questions.load(file).questions)
    if scored.f1 != result.f1:
        raise SuiteError(f"{folder} tells an F1 of {result.f1}, but its answers have {scored.f1}")
    facts = result.provenance
    runtime = facts["runtime"]
    return KnownAnswers(
        model=result.model,
        model_checksum=facts["model_checksum"],
        dataset=result.dataset,
        dataset_checksum=checksum,
        made_with=f"{runtime} {facts['versions'][runtime]}, {result.provider}, {facts['cpu']}",
        f1=scored.f1_by_question,
    )


def text_of(answers: KnownAnswers) -> str:
    """JSON of a key a line, in which what is whole right or wrong is 1 or 0."""
    document = dataclasses.asdict(answers)
    document["f1"] = [int(one) if one in (0, 1) else one for one in answers.f1]
    lines = (
        f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}"
        for key, value in document.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    """Write the answers of a run into a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the folder of an accuracy run")
    parser.add_argument("file", type=Path, help="the JSON to write")
    given = parser.parse_args()
    given.file.write_text(text_of(answers_of(given.run)), encoding="utf-8")


if __name__ == "__main__":
    main()
