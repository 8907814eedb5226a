"""What a case leaves behind and what it finds again, in real pytest sessions on a tiny model."""

from pathlib import Path

import pytest
from pytest_sessions import name_of, run

from bertsquad.__main__ import main


def files_with(text: str, folder: Path) -> list[str]:
    """The files under a folder that hold a text."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [str(path) for path in files if text.encode() in path.read_bytes()]


def test_credentials_in_addresses_are_in_nothing_that_is_written_or_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    done = run(
        here,
        *("-k", "offline and accuracy", "--model", "bert_large", "--output", "results"),
        *("--benchmark-json", "benchmarks.json", "-rA"),
        *("--deselect", "https://someone:hunter2@elsewhere.invalid/a?token=hunter2"),
        variables={"BERTSQUAD_MIRROR": "https://someone:hunter2@mirror.invalid/files"},
    )
    message = done.cases["test_accuracy[bert_large-pocket-offline-cpu-fp32]"].message
    assert "https://***@mirror.invalid/files/model.onnx: " in message
    facts = done.result(name_of("accuracy", "offline"))["provenance"]
    assert facts["environment"]["BERTSQUAD_MIRROR"] == "https://***@mirror.invalid/files"
    assert " --deselect 'https://***@elsewhere.invalid/a?***'" in facts["command"]
    assert main(["report", str(here), "-o", str(here / "report.html")]) == 0
    assert "hunter2" not in done.out + done.err + "".join(capsys.readouterr())
    assert files_with("mirror.invalid", here)
    assert files_with("hunter2", tmp_path) == []
