"""A user.conf is what LoadGen reads in it, or refused in a sentence that names the line."""

import os
from pathlib import Path
from typing import Any

import mlperf_loadgen as lg
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from requested import conf, request

from bertsquad.errors import SuiteError
from bertsquad.loadgen import reading, run, work
from bertsquad.loadgen.request import Targets, given_targets
from bertsquad.loadgen.user_conf import UserConf
from bertsquad.scenarios import SCENARIOS


def of(path: str, scenario: str = "offline") -> dict[str, float]:
    return reading.read(Path(path)).of(scenario)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["bert.Server.target_qps = 5", "*.Server.target_qps = 7"], 5.0),
        (["*.Server.target_qps = 7", "bert.Server.target_qps = 5"], 5.0),
        (["*.Server.target_qps = 7", "bert.*.target_qps = 5"], 7.0),
        (["*.*.target_qps = 8", "bert.*.target_qps = 5"], 5.0),
        (["*.*.target_qps = 8"], 8.0),
        (["bert.Server.target_qps = 8", "bert.Server.target_qps = 5"], 5.0),
    ],
)
def test_the_line_that_loadgen_itself_would_follow_is_followed(
    tmp_path: Path, lines: list[str], expected: float
) -> None:
    path = conf(tmp_path, *lines)
    own = lg.TestSettings()
    own.FromConfig(path, "bert", "Server", 2)
    assert own.server_target_qps == expected
    asked = request("server", samples=9, user_conf=path)
    assert given_targets(asked) == Targets(expected, 130.0, "user-conf")


def test_a_user_conf_is_read_past_comments_blanks_and_other_models(tmp_path: Path) -> None:
    path = conf(
        tmp_path,
        "# für die Maschine in der Ecke",
        "",
        "#bert.Offline.target_qps = 1",
        "bert.Offline.target_qps = 12.5",
        "*.Server.target_latency = 100",
        "bert.*.min_duration = 60000",
        "resnet50.Offline.target_qps = 99",
        "mixtral-8x7b.*.use_token_latencies = 1",
        "resnet50.Offline.min_duration=7",
        "llama2.Sometimes.whatever = -1e3",
    )
    read = reading.read(Path(path))
    assert read.settings == {
        "offline": {"min_duration": 60000, "target_qps": 12.5},
        "singlestream": {"min_duration": 60000},
        "multistream": {"min_duration": 60000},
        "server": {"min_duration": 60000, "target_latency": 100},
    }
    assert read.own["server"] == {"min_duration": 600_000, "target_latency": 130}
    assert read.passed_over == []


@pytest.mark.parametrize(
    ("line", "scenario", "expected"),
    [
        ("bert.Offline.target_qps = .5", "offline", {"target_qps": 0.5}),
        ("bert.Offline.target_qps = 25.", "offline", {"target_qps": 25.0}),
        ("bert.Offline.target_qps = 2.5e1", "offline", {"target_qps": 25.0}),
        ("bert.Offline.target_qps = +1E2", "offline", {"target_qps": 100.0}),
        ("bert.Offline.target_qps = 010", "offline", {"target_qps": 10.0}),
        ("bert.*.min_query_count = 24576.0", "offline", {"min_query_count": 24576}),
        ("bert.*.min_query_count = 0x10", "server", {"min_query_count": 16}),
        ("\tbert.Offline.target_qps\t=  5 ", "offline", {"target_qps": 5.0}),
        ("bert.Offline.target_qps = 5\r", "offline", {"target_qps": 5.0}),
        ("*.*.target_latency = 12", "server", {"target_latency": 12}),
        ("*.SingleStream.target_latency = 1e-3", "singlestream", {"target_latency": 0.001}),
        ("*.*.target_latency_percentile = 99.9", "server", {"target_latency_percentile": 99.9}),
        ("*.*.performance_issue_same = 1", "offline", {"performance_issue_same": 1}),
        ("*.*.samples_per_query = 2", "multistream", {"samples_per_query": 2}),
        ("*.*.samples_per_query = 2", "offline", {}),
    ],
)
def test_what_loadgen_reads_is_read(
    tmp_path: Path, line: str, scenario: str, expected: dict[str, float]
) -> None:
    assert of(conf(tmp_path, line), scenario) == expected


@pytest.mark.parametrize(
    "line",
    [
        "target_qps = 5",
        "bert.Offline.target_qps",
        "bert.Offline.target_qps: 5",
        "bert.Offline.target_qps = ",
        "bert.Offlin.target_qps = 5",
        "bert.offline.target_qps = 5",
        "bert.Offline.target_qps = 5 6",
        "[bert]",
        # LoadGen drops the whole file for these.
        "bert.Offline.target_qps = 25#measured",
        "bert.Offline.target_qps = 25 # measured",
        "resnet50.Offline.target_qps = 25 # measured",
        "#measured on Monday",
        "bert.Offline.target_qps = 1,000",
        "bert.Offline.target_qps = 1_000",
        "bert.Offline.target_qps == 5",
        # It passes over these in silence.
        "bert.Offline.target_qps # = 5",
        "*.Offlin.target_qps = 5",
        "\N{ZERO WIDTH NO-BREAK SPACE}bert.Offline.target_qps = 5",
    ],
)
def test_a_line_that_loadgen_would_not_understand_is_named(tmp_path: Path, line: str) -> None:
    path = conf(tmp_path, "# first", "*.*.min_duration = 1000", line)
    with pytest.raises(SuiteError) as caught:
        reading.read(Path(path))
    message = str(caught.value)
    assert f"{path}, line 3: " in message
    assert repr(line.strip()) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("bert.Server.target_qps = fast", "LoadGen drops the whole file"),
        ("bert.Server.target_qps = 0", "expected target_qps above 0"),
        ("bert.Server.target_qps = -5", "expected target_qps above 0"),
        ("bert.Server.target_qps = nan", "as nan; expected a finite number"),
        ("bert.Server.target_qps = inf", "as inf; expected a finite number"),
        ("bert.Server.target_qps = 1e999", "as inf; expected a finite number"),
        ("bert.Server.target_latency = 100.5", "as 100; expected a whole number"),
        ("*.*.target_latency = 100.5", "target_latency of Server as 100; expected a whole number"),
        ("*.*.min_duration = soon", "LoadGen drops the whole file"),
        ("*.*.min_duration = 1e3", "min_duration of Offline as 1; expected a whole number"),
        ("*.*.min_duration = 010", "as 8; expected a whole number"),
        ("*.*.min_duration = 10.9", "as 10; expected a whole number"),
        ("*.*.min_duration = -5", "as 18446744073709551611; expected a whole number"),
        ("*.*.min_duration = 99999999999999999999", "as 18446744073709551615; expected"),
        ("*.Server.target_latency = 1e999999", "as 1; expected a whole number"),
        ("*.Server.target_latency = 1e999999999999999999", "as 1; expected a whole number"),
        ("*.*.min_duration = 1e-999999", "as 1; expected a whole number"),
        ("*.*.max_async_queries = 5000000000", "of Server as 705032704; expected"),
        ("*.*.max_async_queries = -5", "of Server as 18446744073709551611; expected"),
        ("*.*.performance_issue_unique = 0.5", "as 0; expected 0 or 1"),
        ("*.*.samples_per_query = 0", "expected samples_per_query above 0"),
        ("*.*.target_latency_percentile = 0", "above 0"),
        ("*.*.target_latency_percentile = 100", "below 100"),
        ("*.*.use_token_latencies = 1", "BERT gives no tokens"),
    ],
)
def test_a_value_that_loadgen_would_misread_is_named(tmp_path: Path, line: str, told: str) -> None:
    path = conf(tmp_path, line)
    with pytest.raises(SuiteError, match="line 1") as caught:
        reading.read(Path(path))
    assert told in str(caught.value)


@pytest.mark.parametrize("equals", ["=", " =", "= "])
def test_a_line_without_blanks_which_loadgen_would_pass_over_is_refused(
    tmp_path: Path, equals: str
) -> None:
    path = conf(tmp_path, f"bert.Offline.min_query_count{equals}77")
    with pytest.raises(SuiteError, match="line 1"):
        reading.read(Path(path))


def test_a_key_that_loadgen_does_not_know_is_named(tmp_path: Path) -> None:
    path = conf(tmp_path, "bert.Offline.target_qp = 5")
    with pytest.raises(SuiteError, match="line 1: LoadGen knows no key 'target_qp'"):
        reading.read(Path(path))


def test_a_line_that_is_shown_holds_no_escapes(tmp_path: Path) -> None:
    lines = ("*.*.min_duration = 7", "bert-99.Offline.target_qps # \x1b[31m" + "x" * 99)
    (told,) = reading.read(Path(conf(tmp_path, *lines))).passed_over
    assert told.startswith(r"line 2 (bert-99.Offline.target_qps # \x1b[31mxxx")
    assert told.endswith("x...)")


def test_lines_that_seem_to_be_about_bert_but_have_no_effect_are_told(tmp_path: Path) -> None:
    lines = [
        "*.*.mode = 2",
        "bert.Offline.mode = 1",
        "*.Server.target_duration = 0",
        "bert.SingleStream.target_qps = 5",
        "bert-99.Offline.target_qps = 5",
        "BERT.*.min_duration = 5",
    ]
    read = reading.read(Path(conf(tmp_path, *lines, "resnet50.*.mode = 1")))
    assert read.settings == {scenario: {} for scenario in SCENARIOS}
    assert read.passed_over == [f"line {n} ({line})" for n, line in enumerate(lines, start=1)]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["bert-99.Offline.target_qps = 25", "bert-99.*.min_duration = 1"], "(lines: bert-99)"),
        (["bert-99.9.Offline.target_qps = 25", "BERT.*.mode = 1"], "(lines: bert-99.9, BERT)"),
        (["# bert.Offline.target_qps = 25"], "(lines: none)"),
        ([], "(lines: none)"),
    ],
)
def test_a_file_of_which_no_line_is_about_bert_is_refused(
    tmp_path: Path, lines: list[str], told: str
) -> None:
    path = conf(tmp_path, *lines)
    with pytest.raises(SuiteError) as caught:
        reading.read(Path(path))
    assert f"no line of {path} is about bert {told}: expected " in str(caught.value)


def test_a_user_conf_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"nowhere\.conf can't be read"):
        reading.read(tmp_path / "nowhere.conf")
    with pytest.raises(SuiteError, match="it is no regular file"):
        reading.read(tmp_path)
    with pytest.raises(SuiteError, match="can't be read"):
        reading.read(Path("nul\0.conf"))
    line = b"*.*.min_duration = 1000\n"
    for content, told in {
        b"\xff\xfe\x00": "it is no UTF-8",
        line + b"\0": "it holds NUL bytes",
        line * 3000: "it has 72,000 bytes",
    }.items():
        (tmp_path / "binary.conf").write_bytes(content)
        with pytest.raises(SuiteError, match=rf"binary\.conf can't be read as a user.conf: {told}"):
            reading.read(tmp_path / "binary.conf")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.conf")
    with pytest.raises(SuiteError, match="no regular file"):
        reading.read(tmp_path / "pipe.conf")


def test_a_file_whose_name_is_no_utf_8_is_read(tmp_path: Path) -> None:
    place = os.fsencode(tmp_path) + b"/\xff.conf"
    try:
        Path(os.fsdecode(place)).write_text("*.*.min_duration = 1000\n")
    except OSError:
        pytest.skip("this file system has no such names")
    assert reading.read(Path(os.fsdecode(place))).of("server") == {"min_duration": 1000}


@pytest.mark.parametrize(
    "after", ["*.*.min_duration = 2000", "*.*.min_duration = 1000 # more", "# nothing"]
)
def test_a_file_that_changed_since_it_was_read_starts_no_run(tmp_path: Path, after: str) -> None:
    asked = request(samples=9, user_conf=conf(tmp_path, "*.*.min_duration = 1000"))
    run.settings_for(asked, None)
    conf(tmp_path, after)
    with pytest.raises(SuiteError, match=r"user\.conf"):
        run.settings_for(asked, None)


@pytest.mark.parametrize("value", [2**63, 2**64 - 1])
def test_a_number_that_loadgen_would_count_below_0_is_named(tmp_path: Path, value: int) -> None:
    path = Path(conf(tmp_path, f"bert.*.max_duration = {value}"))
    with pytest.raises(SuiteError, match=r"line 1: expected max_duration below 2\*\*63"):
        reading.read(path)


@given(text=st.text(max_size=80) | st.binary(max_size=80))
@hypothesis_settings(max_examples=100, deadline=None)
def test_any_text_is_read_as_a_user_conf_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, text: str | bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.conf"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(errors="replace"))
    try:
        reading.read(path)
    except SuiteError as error:
        assert "any.conf" in str(error)
        assert "\n" not in str(error)


# Everything that a line may be made of, against LoadGen's own answers.

MODELS = ["bert", "*", "bert-99", "BERT", "resnet50"]
PLACES = [*(one.loadgen_name for one in SCENARIOS.values()), "*", "offline"]
KEYS = """target_qps target_latency target_latency_percentile min_duration max_duration
min_query_count max_query_count samples_per_query coalesce_queries max_async_queries
performance_sample_count_override performance_issue_unique performance_issue_same
performance_issue_same_index accuracy_log_rng_seed accuracy_log_sampling_target print_timestamps
sample_concatenate_permutation accuracy_sample_count_override mode qsl_rng_seed target_qp""".split()
VALUES = st.sampled_from(
    "1 0 7 -3 010 0x1f 12.5 .5 25. 2.5e1 1e3 99.9 1e-3 24576.0 nan inf 1e999 5000000000 soon 7#x "
    "18446744073709551615 18446744073709551616 1_0 +4 4 8 16 2000".split()
) | st.floats().map(repr)
LINES = st.builds(
    lambda model, place, key, equals, value, end: f"{model}.{place}.{key}{equals}{value}{end}",
    st.sampled_from(MODELS),
    st.sampled_from(PLACES),
    st.sampled_from(KEYS),
    st.sampled_from([" = "] * 8 + ["=", " =", "\t=  "]),
    VALUES,
    st.sampled_from([""] * 8 + [" ", " # why", " 5"]),
) | st.sampled_from(["", "# a comment", "#comment", "#no comment"])


def told_by_loadgen(path: Path, scenario: str) -> tuple[int, dict[str, Any]]:
    """What LoadGen itself makes of a file: its answer, and what it has for BERT then."""
    made = lg.TestSettings()
    name = SCENARIOS[scenario].loadgen_name
    made.FromConfig("", "bert", name, 0)
    answer = made.FromConfig(str(path), "bert", name, 2)
    names = (
        name
        for name in dir(made)
        if not name.startswith("_") and name not in ("FromConfig", "mode")
    )
    return answer, {name: getattr(made, name) for name in names}


#: Where a user.conf's keys end up: in a setting of all scenarios, or in one of each.
FIELDS = {"min_duration": "min_duration_ms", "max_duration": "max_duration_ms"}
OWN_FIELDS = {
    ("offline", "target_qps"): ("offline_expected_qps", 1),
    ("singlestream", "target_latency"): ("single_stream_expected_latency_ns", 1e6),
    ("singlestream", "target_latency_percentile"): (
        "single_stream_target_latency_percentile",
        0.01,
    ),
    ("multistream", "target_latency"): ("multi_stream_expected_latency_ns", 1e6),
    ("multistream", "target_latency_percentile"): ("multi_stream_target_latency_percentile", 0.01),
    ("multistream", "samples_per_query"): ("multi_stream_samples_per_query", 1),
    ("server", "target_qps"): ("server_target_qps", 1),
    ("server", "target_latency"): ("server_target_latency_ns", 1_000_000),
    ("server", "target_latency_percentile"): ("server_target_latency_percentile", 0.01),
    ("server", "coalesce_queries"): ("server_coalesce_queries", 1),
    ("server", "max_async_queries"): ("server_max_async_queries", 1),
}


def hold(path: Path, lines: list[str], read: UserConf) -> int:
    """Hold that what is read of a file is what LoadGen makes of it; how much was read."""
    for scenario in SCENARIOS:
        answer, made = told_by_loadgen(path, scenario)
        assert answer == 0
        expected = told_by_loadgen(Path("/dev/null"), scenario)[1]
        for key, value in read.of(scenario).items():
            name, unit = OWN_FIELDS.get((scenario, key), (FIELDS.get(key, key), 1))
            assert made[name] == pytest.approx(value * unit, rel=1e-9), (lines, key)
            expected[name] = made[name]
        ours = [name for (one, _), (name, _) in OWN_FIELDS.items() if one == scenario]
        others = {name for name, _ in OWN_FIELDS.values()} - set(ours)
        # What isn't shown isn't set.
        assert {n: v for n, v in made.items() if n not in others} == {
            n: v for n, v in expected.items() if n not in others
        }
    return sum(len(read.of(scenario)) for scenario in SCENARIOS)


@given(st.lists(LINES, min_size=1, max_size=4))
@hypothesis_settings(max_examples=150, deadline=None)
def test_what_is_shown_of_a_file_is_what_loadgen_makes_of_it(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "made.conf"
    path.write_text("\n".join(lines), encoding="utf-8")
    try:
        read = reading.read(path)
    except SuiteError:
        return
    hold(path, lines, read)


#: Lines about BERT that nobody could find fault with.
GOOD = st.builds(
    "{}.{}.{}".format,
    st.sampled_from(["bert", "*"]),
    st.sampled_from(["*", *(one.loadgen_name for one in SCENARIOS.values())]),
    st.one_of(
        st.builds(
            "{} = {}".format,
            st.sampled_from(
                """min_duration max_duration min_query_count max_query_count
                performance_sample_count_override performance_issue_same_index""".split()
            ),
            st.integers(1, 10**6),
        ),
        st.builds(
            "{} = {}".format,
            st.sampled_from(["performance_issue_unique", "performance_issue_same"]),
            st.integers(0, 1),
        ),
    ),
) | st.sampled_from(
    """*.Offline.target_qps = 25|bert.Server.target_qps = 12.5|*.Server.target_latency = 100
    bert.SingleStream.target_latency = 10|*.MultiStream.target_latency_percentile = 97
    bert.MultiStream.samples_per_query = 4|bert.Server.coalesce_queries = 1
    bert.Server.max_async_queries = 16""".replace("\n    ", "|").split("|")
)


@given(st.lists(GOOD, min_size=1, max_size=6))
@hypothesis_settings(max_examples=100, deadline=None)
def test_good_lines_are_read_in_any_number_and_order_as_loadgen_reads_them(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "good.conf"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert hold(path, lines, reading.read(path)) > 0


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_results_are_held_against_is_what_loadgen_has_without_a_user_conf(
    tmp_path: Path, scenario: str
) -> None:
    usual = work.usual(scenario, "mlperf")
    path = conf(tmp_path, *(f"*.*.{key} = 1" for key in usual))
    assert reading.read(Path(path)).own[scenario] == usual
