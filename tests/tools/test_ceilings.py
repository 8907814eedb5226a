"""`tools/ceilings.py` measures what it says, on the same samples for all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import ceilings
import numpy as np
import pytest
import tiny

ROOT = Path(__file__).resolve().parents[2]


def test_the_subset_is_spread_over_the_lengths_and_always_the_same() -> None:
    lengths = np.random.default_rng(1).integers(20, 385, 1000)
    chosen = ceilings.stratified(lengths, 100)
    assert len(set(chosen.tolist())) == 100
    assert chosen.tolist() == ceilings.stratified(lengths, 100).tolist()
    assert lengths[chosen].mean() == pytest.approx(lengths.mean(), rel=0.01)
    assert ceilings.stratified(lengths[:5], 100).tolist() == [0, 1, 2, 3, 4]


def test_chosen_windows_are_what_they_were(tmp_path: Path) -> None:
    whole = tiny.build_features(tmp_path, 30)
    chosen = ceilings.select(whole, np.array([3, 7, 20]))
    for got, wanted in zip(chosen.batch([0, 1, 2]), whole.batch([3, 7, 20]), strict=True):
        assert got.tolist() == wanted.tolist()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_table_and_a_json_come_of_it(tmp_path: Path, precision: str) -> None:
    model = tiny.model(tmp_path / "small.onnx", wide=True)
    done = subprocess.run(
        [
            *(sys.executable, "tools/ceilings.py", "--model", str(model), "--dataset", "pocket"),
            *("--precision", precision, "--samples", "8", "--naive-samples", "2", "--rounds", "1"),
            *("--json", str(tmp_path / "out.json")),
        ],
        cwd=ROOT,
        env=os.environ | {"BERTSQUAD_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert f"| suite, {precision} |" in done.stdout
    found = json.loads((tmp_path / "out.json").read_text("utf-8"))
    (row,) = found["precisions"]
    assert (found["samples"], found["naive_samples"]) == (8, 2)
    assert min(found["naive_qps"], row["qps"], row["bare_qps"], row["ceiling_gflops"]) > 0
    assert row["times_naive"] == pytest.approx(row["qps"] / found["naive_qps"])


def test_a_fault_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "tools/ceilings.py", "--model", "bert_huge"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "'bert_huge'" in done.stderr
