"""What LoadGen is told to do."""

from pathlib import Path
from typing import Any

import pytest
from requested import conf, request

from bertsquad.loadgen.request import Targets, given_targets, server_bound_ms
from bertsquad.scenarios import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_targets_come_from_the_option_then_user_conf_then_the_probe(
    tmp_path: Path, scenario: str
) -> None:
    name = SCENARIOS[scenario].loadgen_name
    rate = scenario in ("offline", "server")
    key, option = ("target_qps", "target_qps") if rate else ("target_latency", "target_latency_ms")
    path = conf(tmp_path, f"bert.{name}.{key} = 7.5")

    def of(targets: Targets | None) -> tuple[float | None, str]:
        assert targets is not None
        return (targets.qps if rate else targets.latency_ms), targets.source

    given: dict[str, Any] = {option: 3.0}
    both = given_targets(request(scenario, samples=9, user_conf=path, **given))
    assert of(both) == (3.0, "option")
    of_conf = given_targets(request(scenario, samples=9, user_conf=path))
    assert of(of_conf) == (7.5, "user-conf")
    assert given_targets(request(scenario, samples=9)) is None
    other = conf(tmp_path, f"bert.{name}.min_duration = 1000", f"resnet50.{name}.{key} = 9")
    assert given_targets(request(scenario, samples=9, user_conf=other)) is None


def test_a_target_that_the_scenario_does_not_have_leaves_the_probe_its_work() -> None:
    assert given_targets(request("offline", samples=9, target_latency_ms=5.0)) is None
    assert given_targets(request("singlestream", samples=9, target_qps=5.0)) is None
    assert given_targets(request("server", samples=9, target_latency_ms=5.0)) is None


def test_the_server_bound_is_mlperfs_unless_the_user_gave_one(tmp_path: Path) -> None:
    path = conf(tmp_path, "bert.Server.target_latency = 50")
    assert server_bound_ms(request("server", samples=9)) == 130.0
    assert server_bound_ms(request("server", samples=9, user_conf=path)) == 50.0
    asked = request("server", samples=9, user_conf=path, target_latency_ms=20.0)
    assert server_bound_ms(asked) == 20.0
