"""What there is to say of finished cases."""

from dataclasses import replace

from made import ACCURACY, COMPLIANCE, OFFLINE, SERVER, STREAM, SUBSET

from bertsquad.loadgen.logs import Cause
from bertsquad.machine.noise import Disturbance
from bertsquad.results.guessing import Doubt
from bertsquad.results.remarks import remarks
from bertsquad.results.result import FAILED, SKIPPED, Missing, Result
from bertsquad.scenarios import SCENARIOS


def below(*results: Result) -> list[str]:
    return remarks(results)


def test_what_is_odd_about_the_answers_is_told() -> None:
    odd = Doubt("F1 1.6 on the first 200 questions is about what guessing gives", "look at it")
    others = [replace(ACCURACY, case=name, doubt=odd, warnings=[str(odd)]) for name in "ab"]
    lines = remarks(others)
    assert f"a, accuracy, and 1 more: {odd.matter}" in lines
    assert lines.count("  -> look at it") == 1


def test_what_is_no_plain_success_is_told_with_what_to_do_about_it() -> None:
    failed = replace(ACCURACY, verdict=FAILED, f1=60.0, reason="F1 60.000 is under the target")
    told = below(SERVER, failed)
    assert told[0] == f"{ACCURACY.case}, accuracy: F1 60.000 is under the target"
    assert told[1].startswith("  -> ")
    assert told[2] == f"{SERVER.case}, performance: {SERVER.reason}"
    assert told[3].startswith("  -> --target-qps 11 lowers the rate")
    assert f"{SUBSET.case}, accuracy: {SUBSET.reason}" in below(SUBSET)


def test_results_with_the_same_cure_share_its_line() -> None:
    busy = [Disturbance("other processes used 40% of the CPU", "run it again")]
    told = below(*(replace(one, disturbances=busy) for one in (OFFLINE, STREAM)))
    assert told[:2] == [
        "minilm-pocket-*-cpu-fp32, performance (2 cases): other processes used 40% of the CPU",
        "  -> run it again",
    ]
    other = replace(STREAM, disturbances=[Disturbance("a step of the clock", "run it again")])
    assert below(replace(OFFLINE, disturbances=busy), other)[:3] == [
        f"{OFFLINE.case}, performance: other processes used 40% of the CPU",
        f"{STREAM.case}, performance: a step of the clock",
        "  -> run it again",
    ]


def test_what_differs_only_in_its_figure_is_one_line_for_all_cases_and_modes() -> None:
    def busy(share: float) -> list[Disturbance]:
        matter = f"other processes used {share:.0%} of the CPU"
        return [Disturbance(matter, "run it again", share)]

    audit = replace(COMPLIANCE, disturbances=busy(0.84))
    runs = [replace(OFFLINE, disturbances=busy(0.79)), audit]
    assert below(*runs)[:2] == [
        f"{OFFLINE.case}, performance and compliance: other processes used 79% to 84% of the CPU",
        "  -> run it again",
    ]
    (line, *_) = below(*runs, replace(STREAM, disturbances=busy(0.81)))
    assert line == (
        "minilm-pocket-*-cpu-fp32, performance and compliance (3 runs): "
        "other processes used 79% to 84% of the CPU"
    )
    (line, *_) = below(replace(OFFLINE, disturbances=busy(0.79)))
    assert line == f"{OFFLINE.case}, performance: other processes used 79% of the CPU"


def test_runs_that_were_not_steady_share_a_cure_that_is_long_enough_for_all() -> None:
    def slowed(result: Result, slowest: float, seconds: float) -> Result:
        speeds = {"course": {"relative_speed": [1.0] * 5 + [slowest] * 5}}
        return replace(result, timeline=speeds, run_time_s=seconds)

    told = below(slowed(OFFLINE, 0.4, 3.0), slowed(STREAM, 0.5, 12.0))
    assert told[0].endswith(
        "the slowest part of the run calculated at 40% to 50% of the fastest's speed"
    )
    assert "longer (--min-duration-s 120)" in told[1]
    assert sum("--min-duration-s" in line for line in told) == 1


def test_an_audit_that_is_invalid_as_the_run_it_audits_shares_its_line_and_its_cure() -> None:
    short = [Cause("min_duration", "the run was shorter than the minimum duration")]
    run = replace(OFFLINE, loadgen_valid=False, invalid_causes=short, qps=4.3, target_qps=3.0)
    audit = replace(COMPLIANCE, loadgen_valid=False, invalid_causes=short, qps=4.4, target_qps=3.0)
    told = below(run, audit)
    assert told[:2] == [
        f"{OFFLINE.case}, performance and compliance: LoadGen calls the run INVALID: "
        "the run was shorter than the minimum duration",
        "  -> --target-qps 5.2 makes its query large enough",
    ]
    assert not any("5.3" in line for line in told)


def test_what_is_the_same_of_many_cases_is_one_line_that_counts_them() -> None:
    def told(*names: str) -> list[str]:
        return below(*(replace(SERVER, case=name) for name in names))[:-2]

    (one, *cure), few = told("case0"), told("case0", "case1")
    many = told(*(f"case{n}" for n in range(1_000)))
    said = one.partition(": ")[2]
    assert few == [f"case0, performance, and 1 more: {said}", *cure]
    assert many == [f"case0, performance, and 999 more: {said}", *cure]
    alike = told(*(f"minilm-pocket-{name}-cpu-fp32" for name in SCENARIOS))
    assert alike == [f"minilm-pocket-*-cpu-fp32, performance (4 cases): {said}", *cure]


def test_why_a_case_gave_no_result_is_told_once_and_of_a_traceback_the_last_line() -> None:
    died = [Missing(f"a-b-{name}-cpu-fp32", "performance", FAILED, "killed") for name in SCENARIOS]
    fell = Missing("c", "accuracy", FAILED, "def test():\n>   1 / 0\ntest.py:3: ZeroDivisionError")
    assert remarks([*died, fell]) == [
        "a-b-*-cpu-fp32, performance (4 cases): killed",
        "c, accuracy: test.py:3: ZeroDivisionError",
    ]


def test_what_was_not_run_is_counted_by_its_reason_unless_pytest_tells_it() -> None:
    gpu = "cuda: no NVIDIA GPU with a driver was found"
    rows = [Missing(f"minilm-pocket-{s}-cuda-fp32", "accuracy", SKIPPED, gpu) for s in "ab"]
    why = "130 ms can't be kept"
    alone = Missing("minilm-pocket-server-cpu-fp32", "accuracy", SKIPPED, why)
    assert remarks([*rows, alone]) == [
        f"2 cases not run: {gpu}",
        "minilm-pocket-server-cpu-fp32, accuracy: not run: 130 ms can't be kept",
    ]
    assert remarks([*rows, alone], skips=False) == []


def test_a_subset_is_told_once_for_its_data_set_with_the_option_that_runs_all() -> None:
    told = below(SUBSET, replace(OFFLINE, sample_count=20), replace(STREAM, sample_count=20))
    place = told.index("pocket: a subset, 20 of 494 samples")
    assert told[place + 1] == "  -> --dataset-size all runs them all"
    assert sum("--dataset-size" in line for line in told) == 1


def test_plain_successes_get_one_remark_that_they_are_not_mlperfs() -> None:
    remark, cure = below(ACCURACY, OFFLINE, STREAM)
    assert remark.startswith("Not valid MLPerf results")
    assert cure.startswith("  -> --rules mlperf")
    assert below(replace(OFFLINE, mlperf_valid=True)) == []
    (remark,) = below(replace(OFFLINE, rules="mlperf"))
    assert remark.startswith("Not valid MLPerf results")


def test_a_model_that_had_to_be_padded_is_remarked_upon() -> None:
    padded = replace(ACCURACY, provenance={"model_padded_to": 384})
    assert any("minilm: run padded" in line for line in below(padded))
    assert not any("run padded" in line for line in below(ACCURACY))


def test_a_model_whose_cached_copy_was_damaged_is_told() -> None:
    facts = {"model_preparation": "as it is", "model_rebuilt": "damaged"}
    rebuilt = replace(ACCURACY, provenance=facts)
    told = "minilm: as it is (rebuilt, since the cached copy was damaged)"
    assert told in remarks([rebuilt])
    assert not any("rebuilt" in line for line in remarks([ACCURACY]))
