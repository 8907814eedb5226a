"""Every form of a model that exporters, optimisers and quantisers write is run as it says it is.

Each runs with the logits that ONNX Runtime alone gives, or is refused in one sentence.
"""

import importlib.util
import json
from pathlib import Path

import exported
import numpy as np
import pytest
import tiny
import variants
from engines import make_engine
from variants import FORMS

from bertsquad.errors import SuiteError
from bertsquad.models.config import Config, layout_of
from bertsquad.models.reads import Reads
from bertsquad.models.signature import examine

FAMILIES = Path(__file__).resolve().parents[1] / "families"
EXPORTERS = ("optimum", "torch")
NAMES = "albert bert_cased bert_uncased deberta_v2 distilbert roberta xlm_roberta".split()

#: What ONNX Runtime's own tools import, and its wheel doesn't bring.
NEEDS = {"optimised": "sympy", "four": "onnx_ir"}
#: Those whose products of float16 no CPU calculates, and those of less than eight bits.
REFUSED = {
    "half": "half precision",
    "half inside": "half precision",
    "optimised, half": "half precision",
    "four bits": "not to 8 bits",
    "opset 28": "opset",
}
#: Those that the tools themselves fail to write of some models.
FAIL = frozenset(
    ("optimised, dynamic", "QOperator", "opset 11", "opset 13", "opset 17", "opset 20")
)

SHORT = {
    ("optimum", "bert_uncased"): ("as it is", "stacked", "dynamic", "QDQ", "half inside"),
    ("torch", "bert_uncased"): ("QOperator",),
    ("optimum", "roberta"): ("as it is", "by the runtime", "QOperator", "opset 26"),
    ("torch", "roberta"): ("as it is", "stacked"),
    ("optimum", "deberta_v2"): ("as it is",),
    ("torch", "albert"): ("as it is", "opset 28"),
    ("torch", "distilbert"): ("as it is", "half"),
}
CASES = [
    pytest.param(
        *(exporter, name, form),
        id=f"{exporter}-{name}-{form}",
        marks=[] if form in SHORT.get((exporter, name), ()) else [pytest.mark.slow],
    )
    for exporter in EXPORTERS
    for name in NAMES
    for form in FORMS
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))


def config(exporter: str, name: str) -> Config:
    folder = FAMILIES / exporter / name
    return Config.of(json.loads((folder / "config.json").read_text("utf-8")))


def reads(exporter: str, name: str) -> Reads:
    said = config(exporter, name)
    return Reads(layout_of(said, None), highest_id=(said.vocab_size or 0) - 1)


def assert_as_alone(path: Path, reads: Reads) -> None:
    """The engine gives what ONNX Runtime alone does, of every real token."""
    signature, _ = examine(path, reads)
    precision = "int8" if signature.quantised else "fp32"
    made = make_engine(path, precision=precision, reads=reads)
    for window in variants.windows(signature):
        alone = variants.directly(path, signature.feed(*window))
        expected = signature.logits([alone[name] for name in signature.wanted])
        found = made.logits(*window)
        real = window[1].astype(bool)
        assert found.shape == (*window[0].shape, 2)
        assert found.dtype == np.float32
        assert np.abs(found - expected)[real].max() <= 1e-6


@pytest.mark.parametrize(("exporter", "name", "form"), CASES)
def test_each_form_runs_as_onnx_runtime_alone_or_is_refused(
    tmp_path: Path, exporter: str, name: str, form: str
) -> None:
    needed = next((one for start, one in NEEDS.items() if form.startswith(start)), None)
    if needed is not None and importlib.util.find_spec(needed) is None:
        pytest.skip(f"ONNX Runtime's tool needs {needed}")
    source = FAMILIES / exporter / name / "model.onnx"
    try:
        path = FORMS[form](source, tmp_path / "made.onnx")
    except (RuntimeError, AssertionError) as error:
        assert form in FAIL, f"{error}"
        pytest.skip(f"the tool itself fails: {str(error).splitlines()[0][:80]}")
    said = config(exporter, name)
    tables = tiny.inspect(path).tables
    assert tables.words == said.vocab_size
    if name != "deberta_v2":  # which places tokens by their distance
        assert tables.positions == said.max_position_embeddings
    try:
        assert_as_alone(path, reads(exporter, name))
    except SuiteError as error:
        sentence = str(error)
        assert "\n" not in sentence
        # quantize_dynamic makes an operator of ONNX's newest Attention that ONNX Runtime refuses.
        invalid = "dynamic" in form and exporter == "torch" and "is_causal" in sentence
        assert invalid or (form in REFUSED and REFUSED[form] in sentence), sentence
    else:
        assert form not in REFUSED


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", NAMES)
def test_the_kinds_of_segments_of_each_family_are_known(exporter: str, name: str) -> None:
    found = tiny.inspect(FAMILIES / exporter / name / "model.onnx").tables
    assert found.segments == (2 if name.startswith(("bert", "albert")) else None)


def test_onnx_runtimes_fused_operators_run(tmp_path: Path) -> None:
    path = exported.fused(tmp_path / "a.onnx")
    signature = tiny.inspect(path)
    tables = signature.tables
    assert (tables.words, tables.positions, tables.segments) == (
        *(exported.ROWS, exported.POSITIONS),
        2,
    )
    assert signature.stacked
    assert signature.products == 2
    assert_as_alone(path, Reads())
