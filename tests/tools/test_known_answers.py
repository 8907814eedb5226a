"""`tools/known_answers.py` keeps what a whole run in fp32 answered, and nothing else."""

import json
import sys
from pathlib import Path
from typing import Any

import known_answers
import pytest
from made import accuracy, provenance
from shared_data import pocket

from bertsquad import typed
from bertsquad.errors import SuiteError
from bertsquad.results.known_answers import KnownAnswers
from bertsquad.squad.score import score


def run_of(folder: Path, **changes: Any) -> Path:
    """The folder of a run that answered every question by its first answer, but for three."""
    given = {one.id: one.answers[0] for one in pocket().questions}
    for one in pocket().questions[:3]:
        given[one.id] = "no such words"
    facts = provenance(runtime="onnxruntime", versions={"onnxruntime": "1.2"}, cpu="Some CPU")
    f1 = score(given, pocket().questions).f1
    whole = accuracy(**{"f1": f1, "provenance": facts, **changes})
    folder.mkdir()
    (folder / "predictions.json").write_text(json.dumps(given))
    whole.save(folder)
    return folder


def test_a_whole_run_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kept.json"
    words = ["known_answers.py", str(run_of(tmp_path / "run")), str(file)]
    monkeypatch.setattr(sys, "argv", words)
    known_answers.main()
    found = typed.build(KnownAnswers, typed.parse(file.read_bytes()), whole=True)
    assert (found.model, found.dataset) == ("minilm", "pocket")
    assert found.f1 == (0,) * 3 + (1,) * 467
    assert found.whole_f1 == pytest.approx(100 * 467 / 470)
    assert "onnxruntime 1.2" in found.made_with


@pytest.mark.parametrize(
    "changes",
    [{"sample_count": 20}, {"precision": "int8"}, {"model": "mine"}, {"f1": 50.0}],
)
def test_no_other_run_is(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(SuiteError):
        known_answers.answers_of(run_of(tmp_path / "run", **changes))
