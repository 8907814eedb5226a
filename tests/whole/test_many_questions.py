"""200,000 questions, in a process of its own: memory stays bounded, whoever reads them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from shared_data import DEV_SET_FILE, VOCABULARY_FILE, needs_dev_set

pytestmark = [
    pytest.mark.slow,
    needs_dev_set,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux does"),
]

QUESTIONS = 200_000
MOST_MB = 600

#: Loads, builds and saves as `datasets` does, and prints the most memory that it had, in MB.
READ = """
import re, sys
from pathlib import Path
from bertsquad.squad import features, questions, tokeniser
from bertsquad.squad.hugging_face import HuggingFaceReading
from bertsquad.squad.mlperf import MlperfReading
from bertsquad.squad.tokenization import Vocabulary
file, words, way, out = sys.argv[1:]
if way == "mlperf":
    reading = MlperfReading(Vocabulary(Path(words)))
else:
    reading = HuggingFaceReading(tokeniser.load(Path(words)))
dataset = questions.load(Path(file))
built = reading.build(dataset)
features.save(built, Path(out))
# Not ru_maxrss, which begins with what the process had that started this one.
peak_kb = int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
print(len(dataset.questions), len(built), peak_kb // 1024)
"""


def paragraphs() -> Iterator[dict[str, Any]]:
    """The dev set's paragraphs, again and again, with new ids."""
    articles = json.loads(DEV_SET_FILE.read_bytes())["data"]
    told = 0
    for paragraph in cycle([one for article in articles for one in article["paragraphs"]]):
        some = enumerate(paragraph["qas"][: QUESTIONS - told], told)
        qas = [qa | {"id": f"{number:024x}"} for number, qa in some]
        yield {"context": paragraph["context"], "qas": qas}
        told += len(qas)
        if told == QUESTIONS:
            return


def rows() -> Iterator[dict[str, Any]]:
    """The same as Hugging Face's rows."""
    for paragraph in paragraphs():
        for qa in paragraph["qas"]:
            answers = {
                "text": [answer["text"] for answer in qa["answers"]],
                "answer_start": [answer["answer_start"] for answer in qa["answers"]],
            }
            row = {"id": qa["id"], "context": paragraph["context"], "question": qa["question"]}
            yield row | {"answers": answers}


@pytest.fixture(scope="module", params=["SQuAD", "rows"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    if request.param == "rows":
        path = folder / "many.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows()), encoding="utf-8")
    else:
        path = folder / "many.json"
        data = [{"title": "many", "paragraphs": [paragraph]} for paragraph in paragraphs()]
        path.write_text(json.dumps({"version": "1.1", "data": data}), encoding="utf-8")
    return path


@pytest.mark.parametrize("way", ["mlperf", "hugging face"])
def test_memory_is_bounded_while_questions_are_read_and_cut(
    file: Path, way: str, tmp_path: Path
) -> None:
    given = (str(file), str(VOCABULARY_FILE), way, str(tmp_path / "made.npz"))
    command = [sys.executable, "-c", READ, *given]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    questions, windows, peak_mb = map(int, done.stdout.split())
    assert (questions, windows > QUESTIONS) == (QUESTIONS, True)
    assert peak_mb < MOST_MB
