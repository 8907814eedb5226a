"""What is measured before the clock starts: by a backend that notes what it is asked."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray
from requested import request
from unreliable import ANSWER, DIE, RAISE, Nodes

from bertsquad.errors import SuiteError
from bertsquad.loadgen.probe import PROBE_BATCHES, Probe
from bertsquad.squad.features import Features, Inputs


class Noting(Nodes):
    """Notes which batches each instance was asked for, one by one or to warm up."""

    def __init__(self, *given: Any, **others: Any) -> None:
        self.asked: list[tuple[int, int]] = []  # the instance and the number of samples
        self.warmed: list[int] = []
        super().__init__(self._logits, *given, **others)

    def _logits(
        self, features: Inputs, samples: Sequence[int], instance: int
    ) -> list[NDArray[np.float32]]:
        return [np.zeros((features.lengths[sample], 2), np.float32) for sample in samples]

    def infer(self, features: Inputs, samples: Sequence[int], instance: int = 0) -> Any:
        self.asked.append((instance, len(samples)))
        return super().infer(features, samples, instance)

    def warm_up(self, features: Inputs, samples: Sequence[int]) -> None:
        self.warmed.append(len(samples))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Features:
    return tiny.build_features(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Iterator[Any]:
    backends: list[Noting] = []

    def make(*given: Any, **others: Any) -> Noting:
        backends.append(Noting(*given, **others))
        return backends[-1]

    yield make
    for one in backends:
        one.close()


def test_every_instance_is_warmed_with_batches_of_several_samples(
    made: Any, built: Features
) -> None:
    backend = made()
    Probe(backend, built, len(built)).warm_up()
    assert sum(backend.warmed) == 16
    assert backend.asked == [(0, 1)] * 4


def test_a_rate_is_that_of_all_nodes_together(made: Any, built: Features) -> None:
    backend = made((2, 1), seconds=(0.001, 0.001), batch_tokens=400)
    found = Probe(backend, built, len(built)).targets(request(samples=len(built)))
    assert found.qps is not None
    assert found.qps > 0
    assert all(backend.calls)
    assert sum(map(sum, backend.calls)) >= PROBE_BATCHES


def test_a_loss_during_the_probe_spoils_no_rate(made: Any, built: Features) -> None:
    fates = {(0, 1): DIE}
    backend = made((1, 1), lambda node, nth: fates.get((node, nth), ANSWER), batch_tokens=400)
    found = Probe(backend, built, len(built)).targets(request(samples=len(built)))
    assert found.qps is not None
    assert found.qps > 0
    assert [loss.node for loss in backend.dispatcher.losses] == ["10.0.0.0"]


@pytest.mark.parametrize(
    ("fate", "told"),
    [(RAISE, r"node 10\.0\.0\.\d: ValueError"), (DIE, "no node of the cluster is left")],
)
def test_what_goes_wrong_in_the_probe_is_raised(
    made: Any, built: Features, fate: str, told: str
) -> None:
    backend = made((1, 1), lambda node, nth: fate)
    with pytest.raises(SuiteError, match=told):
        Probe(backend, built, len(built)).targets(request(samples=len(built)))


def test_servers_costs_are_measured_on_all_instances(made: Any, built: Features) -> None:
    backend = made((2, 1))
    Probe(backend, built, len(built)).cost()
    asked = [instance for instance, _ in backend.asked]
    assert asked[:6] == [0, 1, 2, 0, 1, 2]


def test_a_latency_is_measured_where_the_run_is(made: Any, built: Features) -> None:
    backend = made((2, 1))
    asked = request("multistream", samples=len(built))
    assert Probe(backend, built, len(built)).targets(asked).latency_ms is not None
    assert set(backend.asked) == {(0, 8)}
