"""What several tests read: the bundled files, and the folder `shared` beside the project.

That folder is no part of the project: what needs it carries a mark made by `needs`.
"""

from functools import cache
from pathlib import Path

import pytest

from bertsquad.squad import questions
from bertsquad.squad.mlperf import MlperfFeatures, MlperfReading
from bertsquad.squad.questions import Dataset
from bertsquad.squad.tokenization import Vocabulary

PROJECT = Path(__file__).resolve().parents[2]
POCKET = PROJECT / "bertsquad" / "pocket"
VOCABULARY_FILE = POCKET / "vocab.txt"
POCKET_FILE = POCKET / "pocket-v1.1.json"

SHARED = PROJECT.parent / "shared"
DEV_SET_FILE = SHARED / "pooch-cache" / "dev-v1.1.json"
GOLDEN = SHARED / "golden"
STANDINS = SHARED / "standins"


def needs(*paths: Path) -> pytest.MarkDecorator:
    missing = [str(path.relative_to(PROJECT.parent)) for path in paths if not path.exists()]
    reason = f"needs {', '.join(missing)} beside the project"
    return pytest.mark.skipif(bool(missing), reason=reason)


needs_dev_set = needs(DEV_SET_FILE)
needs_golden = needs(DEV_SET_FILE, GOLDEN)
needs_standins = needs(STANDINS)


@cache
def vocabulary() -> Vocabulary:
    return Vocabulary(VOCABULARY_FILE)


@cache
def reading() -> MlperfReading:
    return MlperfReading(vocabulary())


@cache
def pocket() -> Dataset:
    return questions.load(POCKET_FILE)


@cache
def pocket_features() -> MlperfFeatures:
    return reading().build(pocket())


@cache
def dev_set() -> Dataset:
    return questions.load(DEV_SET_FILE)


@cache
def dev_set_features() -> MlperfFeatures:
    return reading().build(dev_set())
