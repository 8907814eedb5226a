"""The models that the suite knows, and any other given by its path.

Reference F1 is in per cent, by data set, and always that of the model in fp32.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pooch

from bertsquad.assets import cache, registry
from bertsquad.errors import SuiteError
from bertsquad.files import user_path
from bertsquad.progress import Show, Step, unseen
from bertsquad.rules import REFERENCE_F1


@dataclass(frozen=True)
class Model:
    """An extractive-QA model: where its file is, what it is run with and what it should reach.

    `file` is a name in the registry; where it is None, `path` says where the user's own file is.
    `precision` is the one it is stored in. `gflop` is the work of one sample of SQuAD's average
    length, for estimates only. A `random` model is built here, and its answers mean nothing.
    """

    name: str
    file: str | None
    dataset: str
    precision: str = "fp32"
    reference_f1: Mapping[str, float] = field(default_factory=dict, hash=False)
    path: Path | None = None
    gflop: float = 111.0
    random: bool = False
    description: str = ""


MODELS = {
    model.name: model
    for model in (
        Model(
            "bert_large",
            "model.onnx",
            "squad",
            reference_f1={"squad": REFERENCE_F1},
            description="MLPerf's BERT-large, fp32, 1.34 GB, downloaded",
        ),
        Model(
            "minilm",
            "pocket/minilm-squad.onnx",
            "pocket",
            # squad: bertsquad/pocket/README.md. pocket: measured in fp32 on the CPU provider by
            # pytest benchmarks --model minilm --device cpu -k "offline and accuracy"
            reference_f1={"squad": 80.32709059835867, "pocket": 83.52733309989748},
            gflop=4.0,
            description="MiniLM-L6-H384 fine-tuned for this suite, 45 MB, bundled",
        ),
        Model(
            "bert_large_int8",
            "bert_large_v1_1_fake_quant.onnx",
            "squad",
            precision="int8",
            # Its own F1 is 90.067, but MLPerf's target stays 99 % of the fp32 reference.
            reference_f1={"squad": REFERENCE_F1},
            description="MLPerf's fake-quantised BERT-large, 1.34 GB, downloaded",
        ),
        Model(
            "bert_large_random",
            None,
            "squad",
            random=True,
            description="BERT-large with random weights, built here, for speed alone",
        ),
    )
}

#: What a plain `pytest benchmarks` collects; the others are asked for by name.
DEFAULT_MODELS = ("minilm", "bert_large")


def find(name: str) -> Model:
    """The model called `name`, or the user's own where `name` is the path of an ONNX file."""
    if name in MODELS:
        return MODELS[name]
    path = user_path(name)
    if path.suffix == ".onnx":
        if not path.is_file():
            raise SuiteError(f"there is no file {name}")
        stem = re.sub(r"[^a-z0-9_.-]+", "_", path.stem.lower())
        if stem in MODELS:
            raise SuiteError(f"{name} has the name of another model, {stem}: rename the file")
        # Two operations a weight and token, 178 tokens as in SQuAD's average window.
        gflop = path.stat().st_size / 4 * 2 * 178 / 1e9
        return Model(
            stem, None, "squad", path=path.resolve(), gflop=gflop, description="your own model"
        )
    raise SuiteError(f"expected {', '.join(MODELS)} or the path of an .onnx file, got {name!r}")


def locate(model: Model, show: Show = unseen) -> tuple[Path, str]:
    """A model's file, downloaded or built if need be, and a key that names its content."""
    if model.path is not None:
        return model.path, str(pooch.file_hash(str(model.path)))
    if model.file is not None:
        path = registry.fetch(model.file, "model", show)
        return path, registry.entries()[model.file].digest
    from bertsquad.models import random_bert  # it imports onnx, which nothing else here needs

    def build(file: Path) -> cache.Facts:
        show(Step(f"building {model.name}"))
        random_bert.write(file)
        return {}

    key = f"{model.name}-{random_bert.FORMAT}"
    found = cache.derived_model(f"{key}.onnx", (), build)
    cache.warn_if_rebuilt(found)
    return found.path, key
