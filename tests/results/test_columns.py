import pytest
from made import accuracy, performance, provenance

from bertsquad.errors import SuiteError
from bertsquad.results import columns
from bertsquad.results.result import FAILED, Missing


def test_a_column_is_a_key_of_a_result_or_one_within_it() -> None:
    conf = {"file": "u.conf", "settings": {"bert.Offline.target_qps": 3.0}}
    document = columns.short(performance(provenance=provenance(user_conf=conf)))
    assert columns.value(document, "qps") == 31.4159
    assert columns.value(document, "provenance.versions.numpy") == "2.4.6"
    assert columns.value(document, "provenance.user_conf.settings.bert.Offline.target_qps") == 3.0
    assert columns.value(columns.short(accuracy()), "f1_interval.1") == 86.6


@pytest.mark.parametrize(
    "key", ["qpss", "provenance.core", "provenance.cores.x", "f1_interval.2", "", ".", "qps."]
)
def test_a_key_that_no_result_has_is_refused_with_those_near(key: str) -> None:
    with pytest.raises(SuiteError, match=r"^expected keys of result\.json") as caught:
        columns.rows([columns.short(performance())], ["case", key])
    assert repr(key) in str(caught.value)


def test_near_names_are_named_also_where_they_lie_deeper() -> None:
    known = [columns.short(performance())]
    assert "qps" in str(columns.no_such("qpss", known)).partition("near which are ")[2]
    assert "provenance.cores" in str(columns.no_such("cores", known))


def test_what_some_results_lack_is_none_there() -> None:
    old = performance(provenance={"started_at": "2026-11-01T02:00:00+00:00"})
    documents = [columns.short(one) for one in (performance(), old)]
    documents.append(columns.short(Missing("x", "accuracy", FAILED, "it ended")))
    asked = ("provenance.cores", "f1", "verdict", "provenance.machine")
    found = columns.rows(documents, asked)
    assert found[:2] == [[4, None, "passed", None], [None, None, "passed", None]]
    assert found[2] == [None, None, "failed", None]


def test_the_usual_columns_have_one_value_each() -> None:
    for result in (performance(), accuracy()):
        (row,) = columns.rows([columns.short(result)], columns.usual())
        assert {type(one) for one in row} <= {str, int, float, bool, type(None)}
    assert {"case", "qps", "f1", "mlperf_metric_value", "verdict"} <= set(columns.usual())


def test_the_timeline_is_there_where_it_is_asked_for() -> None:
    assert "timeline" not in columns.short(performance())
    (row,) = columns.rows(
        [columns.short(performance(), ["timeline.off_by_us"])], ["timeline.off_by_us"]
    )
    assert row == [1.5]
