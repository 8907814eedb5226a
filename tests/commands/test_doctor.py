"""`python -m bertsquad doctor` tells the machine, and what to change on it."""

from pathlib import Path

import pytest

from bertsquad.__main__ import main
from bertsquad.machine import processor
from bertsquad.machine.processor import Processor


def test_doctor_ends_with_advice_where_the_machine_is_not_set_up_for_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BERTSQUAD_DATA", str(tmp_path / "data"))
    old = Processor(("AVX2",), ("AVX-512", "VNNI", "BF16", "AMX"), 2, governor="powersave")
    monkeypatch.setattr(processor, "read", lambda: old)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  instruction sets: AVX2 (not AVX-512, VNNI, BF16, AMX)" in lines
    assert "  SMT: on, 2 threads a core" in lines
    assert "  governor: powersave" in lines
    assert "  turbo: unknown" in lines
    advice = lines[lines.index("advice:") + 1 :]
    begins = ("  int8 gains nothing here", "  the governor is powersave", "  SMT is on")
    assert len([line for line in advice if line.startswith(begins)]) == 3
    assert all(line.startswith("  ") for line in advice)


def test_doctor_says_so_where_there_is_nothing_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BERTSQUAD_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(processor, "read", Processor)
    monkeypatch.setattr("bertsquad.machine.hardware.quota", lambda *_: None)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "advice: none"
