"""A subset isn't fooled by luck: a damaged model shows on few questions, a sound one is let be."""

import json
from pathlib import Path

import damaged
import numpy as np
import pytest
from pytest_sessions import PytestSession, name_of, run_pytest, run_tiny
from shared_data import pocket

from bertsquad.models.zoo import MODELS
from bertsquad.results import known_answers
from bertsquad.results.accuracy import judge_f1
from bertsquad.results.reference import KNOWN, Pair, compare
from bertsquad.results.result import PASSED
from bertsquad.squad.score import score

MINILM = MODELS["minilm"]
OFFLINE = ("--device", "cpu", "-k", "offline and accuracy")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> PytestSession:
    """MiniLM as it is, in both precisions, on all of pocket."""
    folder = tmp_path_factory.mktemp("sound") / "a"
    both = ("--precision", "int8", "--precision", "fp32")
    return run_pytest(folder, "--model", "minilm", *both, *OFFLINE)


def f1_of(session: PytestSession, precision: str) -> dict[str, float]:
    folder = session.folder / f"results/accuracy-minilm-pocket-offline-cpu-{precision}"
    given = json.loads((folder / "predictions.json").read_bytes())
    rated = score(given, pocket().questions).f1_by_question
    return {one.id: f1 for one, f1 in zip(pocket().questions, rated, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_sound_model_passes_whatever_20_questions_it_gets(
    sound: PytestSession, precision: str
) -> None:
    assert sound.code == pytest.ExitCode.OK
    own = f1_of(sound, precision)
    kept = known_answers.read(MINILM.answers["pocket"])
    theirs = dict(zip(own, kept.f1, strict=True))
    pair = Pair(KNOWN, "minilm", theirs, kept.whole_f1)
    words = set()
    for seed in range(200):
        ids = [list(own)[n] for n in np.random.default_rng(seed).permutation(len(own))[:20]]
        f1 = [own[one] for one in ids]
        beside = compare(pair, ids, f1)
        verdict, _ = judge_f1(5 * sum(f1), 0.99 * kept.whole_f1, f1, True, "minilm", beside)
        words.add(verdict.word)
    assert words == {PASSED}


@pytest.mark.slow
@pytest.mark.parametrize(("level", "f1"), [(0.31, 50.8), (0.27, 66.7)])
def test_a_damaged_model_fails_or_is_called_in_question(
    tmp_path: Path, level: float, f1: float
) -> None:
    model = damaged.write(tmp_path / "damaged.onnx", level)
    asked = ("--model", str(model), "--dataset", "pocket", "--reference-f1", "83.527", *OFFLINE)
    name = "test_accuracy[damaged-pocket-offline-cpu-fp32]"
    few = run_pytest(tmp_path / "few", *asked, "--dataset-size", "20")
    result = few.result(name)
    assert result["question_count"] == 17
    assert result["f1"] == pytest.approx(f1, abs=10)
    reference = result["reference"]
    assert (reference["source"], reference["model"]) == ("bundled", "minilm")
    assert reference["f1"] == pytest.approx(91.2, abs=0.1)
    paired = f"{reference['difference']:.1f} ± {reference['half_width']:.1f} over 17 questions"
    for text in (f"F1 {result['f1']:.3f}", f"91.2 (paired, {paired})"):
        assert text in few.out
        assert text in result["reason"]
    assert result["verdict"] in ("failed", "undecided")
    if result["verdict"] == "undecided":
        assert result["warnings"] == [result["reason"]]
    more = run_pytest(tmp_path / "more", *asked, "--dataset-size", "100")
    assert more.code == pytest.ExitCode.TESTS_FAILED
    assert more.result(name)["verdict"] == "failed"
    assert more.result(name)["question_count"] == 91


def test_int8_is_measured_by_the_fp32_run_of_the_same_pytest_session(tmp_path: Path) -> None:
    both = ("--precision", "int8", "--precision", "fp32")
    pytest_session = run_tiny(tmp_path / "a", *both, "-k", "offline and accuracy", wide=True)
    assert pytest_session.code == pytest.ExitCode.OK
    whole, quantised = (
        pytest_session.result(name_of("accuracy", "offline", precision))
        for precision in ("fp32", "int8")
    )
    assert (whole["verdict"], whole["reference"]["source"]) == ("no target", "bundled")
    reference = quantised["reference"]
    assert (reference["source"], reference["model"]) == ("session", "tiny")
    assert reference["f1"] == pytest.approx(whole["f1"])
    assert reference["difference"] == pytest.approx(whole["f1"] - quantised["f1"])
    assert quantised["f1_target"] == pytest.approx(0.99 * whole["f1"])
    assert quantised["verdict"] != "no target"
    assert "99 % of its own F1 in fp32 on these questions" in quantised["reason"]
