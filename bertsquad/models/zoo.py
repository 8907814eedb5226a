"""The models that the suite knows, and any other given by its path.

Reference F1 is in per cent, by data set, and always that of the model in fp32.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bertsquad.assets import cache, registry
from bertsquad.assets.fingerprint import ModelFiles, fingerprint, joint_digest
from bertsquad.errors import SuiteError
from bertsquad.files import unreadable, user_path
from bertsquad.models import own_model
from bertsquad.progress import Show, Step, unseen
from bertsquad.rules import REFERENCE_F1


@dataclass(frozen=True)
class Model:
    """An extractive-QA model: where its file is, what it is run with and what it should reach.

    `file` is a name in the registry; where it is None, `path` says where the user's own file is,
    its folder without links, but the file itself perhaps a link.
    `tokeniser` is the folder or file of its own tokeniser; where it is None, the model has BERT's
    uncased vocabulary and is run by MLPerf's rules. `config` is its `config.json`, None if none.
    `answers` names, by data set, the files of the registry with the F1 of each of its answers.
    `precision` is the one it is stored in. `gflop` is the work of one sample of SQuAD's average
    length, for estimates only. A `random` model is built here, and its answers mean nothing.
    """

    name: str
    file: str | None
    dataset: str
    precision: str = "fp32"
    reference_f1: Mapping[str, float] = field(default_factory=dict, hash=False)
    answers: Mapping[str, str] = field(default_factory=dict, hash=False)
    path: Path | None = None
    tokeniser: Path | None = None
    config: Path | None = None
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
            answers={
                "squad": "pocket/minilm-on-squad.json",
                "pocket": "pocket/minilm-on-pocket.json",
            },
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
    """The model called `name`, or the user's own where `name` is the path of a folder or file."""
    if name in MODELS:
        return MODELS[name]
    path = user_path(name)
    if path.suffix != ".onnx" and not path.is_dir():
        raise SuiteError(
            f"expected {', '.join(MODELS)}, or the path of an .onnx file or of a folder that holds "
            f"one, got {name!r}"
        )
    found = own_model.look(path)
    if found.name in MODELS:
        raise SuiteError(
            f"{name} has the name of another model, {found.name}: rename the file or its folder"
        )
    # Two operations a weight and token, 178 tokens as in SQuAD's average window.
    gflop = found.file.stat().st_size / 4 * 2 * 178 / 1e9
    return Model(
        found.name,
        None,
        "squad",
        precision=own_model.precision_of(found.file),
        path=found.file,
        tokeniser=found.tokeniser,
        config=found.config,
        gflop=gflop,
        description=f"your own model, {found.file}",
    )


def locate(model: Model, show: Show = unseen) -> ModelFiles:
    """A model's files, downloaded or built if need be, each with its checksum."""
    if model.path is not None:
        return files_of(model.path)
    if model.file is not None:
        found = registry.verified(model.file, "model", show)
        return ModelFiles(found.digest, (found,))
    from bertsquad.models import random_bert  # it imports onnx, which most runs don't need here

    def build(file: Path) -> cache.Facts:
        show(Step(f"building {model.name}"))
        random_bert.write(file)
        return {}

    key = f"{model.name}-{random_bert.FORMAT}"
    built = cache.derived_model(f"{key}.onnx", None, build)
    cache.warn_if_rebuilt(built)
    return ModelFiles(key, built.files)


def files_of(path: Path) -> ModelFiles:
    """The files of the user's model at `path`; SuiteError if one is missing or can't be read."""
    from bertsquad.models import onnx_file  # it imports onnx, which most runs don't need here

    try:
        files = tuple(map(fingerprint, onnx_file.find_files(path)))
    except OSError as error:
        raise unreadable(error.filename or path, error) from error
    return ModelFiles(joint_digest(files), files)
