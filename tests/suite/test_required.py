"""A case that must run is never skipped or left out unseen."""

from pathlib import Path

import pytest
from pytest_sessions import PytestSession, run_pytest, run_pytest_sessions, run_tiny

LARGE = "bert_large-squad-offline-cpu-fp32"
SMALL = "tiny-pocket-offline-cpu-fp32"
QUICK = ("--dataset-size", "20", "--min-duration-s", "0.1", "--device", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("required")


@pytest.fixture(scope="module")
def night(folder: Path) -> PytestSession:
    """The default models, of which the large one can't be had."""
    chosen = ("-k", "bert_large and offline and accuracy")
    return run_pytest(folder / "night", *QUICK, *chosen, "--require", LARGE)


def test_a_night_without_its_required_model_ends_red(night: PytestSession) -> None:
    assert night.code == pytest.ExitCode.TESTS_FAILED
    (case,) = night.cases.values()
    assert case.outcome == "failure"
    assert f"{LARGE} is required, but would be skipped: model.onnx (1.34 GB)" in case.message
    assert "python -m bertsquad fetch" in case.message
    assert "Traceback" not in night.out


def test_the_same_night_is_green_where_nobody_requires_it(folder: Path) -> None:
    plain = run_pytest(folder / "plain", *QUICK, "-k", "bert_large and offline and accuracy")
    assert plain.code == pytest.ExitCode.OK
    assert {case.outcome for case in plain.cases.values()} == {"skipped"}


@pytest.mark.slow
def test_a_required_case_is_failed_under_n_too(folder: Path) -> None:
    chosen = ("-n", "1", "-k", "offline and not compliance")
    done = run_tiny(folder / "parallel", *chosen, "--require", SMALL)
    assert done.code == pytest.ExitCode.TESTS_FAILED
    outcomes = {name.split("[")[0]: case.outcome for name, case in done.cases.items()}
    assert outcomes == {"test_accuracy": "passed", "test_performance": "failure"}
    assert "would be skipped: cases that measure speed don't run under -n" in done.out


def test_what_was_not_selected_or_is_no_case_is_told_at_the_end(folder: Path) -> None:
    names = (SMALL, "tiny-pocket-offline-cpu-int8", LARGE)
    required = [word for name in names for word in ("--require", name)]
    done = run_tiny(folder / "other", "-k", "server and accuracy", *required)
    assert done.code == pytest.ExitCode.TESTS_FAILED
    assert {case.outcome for case in done.cases.values()} == {"passed"}
    ends = [line for line in done.out.splitlines() if line.startswith("ERROR: --require")]
    assert ends == [
        f"ERROR: --require {SMALL}: no test of it ran: none was selected (-k, -m), or the pytest "
        "session ended before",
        "ERROR: --require tiny-pocket-offline-cpu-int8: no test of it ran: --model, --device and "
        f"the like make no such case (did you mean {SMALL}?)",
        f"ERROR: --require {LARGE}: no test of it ran: --model, --device and the like make no "
        f"such case (did you mean {SMALL}?)",
    ]


def test_required_cases_leave_collecting_and_green_sessions_alone(folder: Path) -> None:
    listed, nothing = run_pytest_sessions(
        folder / "listed",
        [
            ["--collect-only", "-q", "-k", "server", "--require", LARGE],
            ["-k", "nothing_at_all", "--require", LARGE],
        ],
    )
    assert listed.code == pytest.ExitCode.OK
    assert nothing.code == pytest.ExitCode.TESTS_FAILED
    assert f"--require {LARGE}: no test of it ran: none was selected" in nothing.out


def test_what_is_no_case_and_no_file_is_refused_in_a_sentence(folder: Path) -> None:
    (done,) = run_pytest_sessions(folder / "refused", [["--require", "bert_large"]])
    assert done.code == pytest.ExitCode.USAGE_ERROR
    assert "--require: expected a case such as minilm-pocket-offline-cpu-fp32" in done.err
    assert "Traceback" not in done.err
