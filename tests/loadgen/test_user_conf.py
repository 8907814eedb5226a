"""A user.conf is read as LoadGen reads it, or refused in a sentence."""

from pathlib import Path

import mlperf_loadgen as lg
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from requested import conf, request

from bertsquad.errors import SuiteError
from bertsquad.loadgen import user_conf
from bertsquad.loadgen.request import Targets, given_targets


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["bert.Server.target_qps = 5", "*.Server.target_qps = 7"], 5.0),
        (["*.Server.target_qps = 7", "bert.Server.target_qps = 5"], 5.0),
        (["*.Server.target_qps = 7", "bert.*.target_qps = 5"], 7.0),
        (["*.*.target_qps = 8", "bert.*.target_qps = 5"], 5.0),
        (["*.*.target_qps = 8"], 8.0),
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


def test_user_conf_is_read_past_comments_blanks_and_other_models(tmp_path: Path) -> None:
    path = conf(
        tmp_path,
        "# the machine in the corner",
        "",
        "bert.Offline.target_qps = 12.5  # measured",
        "*.Server.target_latency = 100",
        "bert.*.min_duration = 60000",
        "resnet50.Offline.target_qps = 99",
    )
    assert user_conf.read_user_conf(Path(path)).settings == {
        ("bert", "Offline", "target_qps"): 12.5,
        ("*", "Server", "target_latency"): 100,
        ("bert", "*", "min_duration"): 60000,
    }


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
    ],
)
def test_a_line_that_loadgen_would_not_understand_is_named(tmp_path: Path, line: str) -> None:
    path = conf(tmp_path, "# first", "*.*.min_duration = 1000", line)
    with pytest.raises(SuiteError) as caught:
        user_conf.read_user_conf(Path(path))
    message = str(caught.value)
    assert f"{path}, line 3: " in message
    assert repr(line.strip()) in message


@pytest.mark.parametrize(
    "line",
    [
        "bert.Server.target_qps = fast",  # given_targets raises ValueError later
        "bert.Server.target_qps = 0",
        "bert.Server.target_qps = -5",
        "bert.Server.target_qps = nan",
        "*.*.min_duration = soon",  # LoadGen passes over it
        "*.*.min_duration = 1e3",  # LoadGen reads 1
    ],
)
def test_a_value_that_is_no_number_loadgen_reads_is_named(tmp_path: Path, line: str) -> None:
    path = conf(tmp_path, line)
    with pytest.raises(SuiteError, match="line 1"):
        user_conf.read_user_conf(Path(path))


@pytest.mark.parametrize("equals", ["=", " =", "= "])
def test_a_line_without_blanks_which_loadgen_would_pass_over_is_refused(
    tmp_path: Path, equals: str
) -> None:
    path = conf(tmp_path, f"bert.Offline.min_query_count{equals}77")
    with pytest.raises(SuiteError, match="line 1"):
        user_conf.read_user_conf(Path(path))


def test_a_key_that_loadgen_does_not_know_is_named(tmp_path: Path) -> None:
    path = conf(tmp_path, "bert.Offline.target_qp = 5")
    with pytest.raises(SuiteError, match="line 1: LoadGen knows no key 'target_qp'"):
        user_conf.read_user_conf(Path(path))


def test_a_user_conf_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"nowhere\.conf can't be read"):
        user_conf.read_user_conf(tmp_path / "nowhere.conf")
    with pytest.raises(SuiteError, match="can't be read"):
        user_conf.read_user_conf(tmp_path)
    (tmp_path / "binary.conf").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SuiteError, match=r"binary\.conf can't be read"):
        user_conf.read_user_conf(tmp_path / "binary.conf")


@given(text=st.text(max_size=80))
@hypothesis_settings(max_examples=100, deadline=None)
def test_any_text_is_read_as_a_user_conf_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.conf"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        user_conf.read_user_conf(path)
    except SuiteError as error:
        assert "any.conf" in str(error)
