"""A model of the user's own: which file it is, and what was found beside it.

`optimum-cli export onnx` and transformers leave a folder with `model.onnx`, a tokeniser and
`config.json`; a repository of the Hugging Face hub has its ONNX files in a folder `onnx` below the
tokeniser, and its cache has links in place of files.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bertsquad.assets import registry
from bertsquad.errors import SuiteError
from bertsquad.files import unreadable
from bertsquad.squad import tokeniser_files
from bertsquad.squad.mlperf import VOCABULARY

CONFIG = "config.json"
#: Where a repository of the hub keeps its ONNX files, below the tokeniser's folder.
ONNX_FOLDER = "onnx"
#: A hub's cache holds a repository as `models--OWNER--NAME/snapshots/REVISION`.
_REPOSITORY = re.compile(r"models--(?:.+--)?(.+)")


@dataclass(frozen=True)
class OwnModel:
    """The user's model: its `file`, and its name in cases.

    `tokeniser` is the folder of its tokeniser, None where it has BERT's uncased vocabulary;
    `config` is its `config.json`, None where it has none.
    """

    file: Path
    name: str
    tokeniser: Path | None
    config: Path | None


def look(path: Path) -> OwnModel:
    """The model that a folder or an ONNX file is; SuiteError where that can't be told."""
    try:
        file = _only_model(path) if path.is_dir() else path
        if not file.is_file():
            raise SuiteError(f"there is no file {file}")
        # A file may be a link with its weights beside it, as in the hub's cache.
        file = file.parent.resolve() / file.name
        places = list(_beside(file))
        own = next((place for place in places if _holds_tokeniser(place)), None)
        configs = (place / CONFIG for place in places)
        config = next((one for one in configs if os.path.lexists(one)), None)
    except OSError as error:
        raise unreadable(error.filename or path, error) from error
    return OwnModel(file, _name(file, own), own, config)


def precision_of(file: Path) -> str:
    """The precision that a model is stored in: int8 where products are quantised, else fp32.

    What isn't a model is told when it is run.
    """
    from bertsquad.models import onnx_file, stored  # they import onnx, which most runs don't need

    with suppress(SuiteError):
        if stored.look_at(onnx_file.load_model(file, weights=False)).quantised:
            return "int8"
    return "fp32"


def _only_model(folder: Path) -> Path:
    """The one ONNX file of a folder, or of its folder `onnx`.

    Hidden ones are none, such as the `._model.onnx` that macOS leaves beside a copy.
    """
    for place in (folder, folder / ONNX_FOLDER):
        found = sorted(one for one in place.glob("*.onnx") if not one.name.startswith("."))
        if len(found) > 1:
            names = ", ".join(str(one.relative_to(folder)) for one in found)
            raise SuiteError(
                f"{folder} holds several models ({names}): give one of these files instead of the "
                "folder"
            )
        if found:
            return found[0]
    raise SuiteError(
        f"expected a folder with an .onnx file, as optimum-cli export onnx makes it, but {folder} "
        "has none"
    )


def _beside(file: Path) -> Iterator[Path]:
    """The folders in which a model's tokeniser may lie."""
    yield file.parent
    if file.parent.name == ONNX_FOLDER:
        yield file.parent.parent


def _holds_tokeniser(folder: Path) -> bool:
    """Whether anything of a tokeniser lies there but MLPerf's vocabulary, which says no more.

    It may be a link to nothing: then it isn't replaced, but refused when it is opened.
    """
    found = [name for name in tokeniser_files.FILES if os.path.lexists(folder / name)]
    vocabulary = Path(VOCABULARY).name
    if found != [vocabulary]:
        return bool(found)
    _, difference = registry.entries()[VOCABULARY].look_at(folder / vocabulary)
    return difference is not None


def _name(file: Path, own: Path | None) -> str:
    """The stem; for Optimum's `model.onnx` the name of the folder that its tokeniser is in.

    `model_quantized.onnx` and others alike.
    """
    name = file.stem
    if own is not None and own.name and re.match(r"model($|[_.-])", name):
        repository = _REPOSITORY.fullmatch(own.parent.parent.name)
        if own.parent.name == "snapshots" and repository:
            name = repository[1] + name.removeprefix("model")
        else:
            name = own.name + name.removeprefix("model")
    return re.sub(r"[^a-z0-9_.-]+", "_", name.lower())
