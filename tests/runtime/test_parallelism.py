"""How the cores are divided among instances: pure decisions, so no machine has to have them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsquad.devices import DEVICES
from bertsquad.errors import SuiteError
from bertsquad.runtime.parallelism import Parallelism, check, plan
from bertsquad.scenarios import SCENARIOS

CPU_DEVICES, GPU_DEVICES = ("cpu", "openvino"), ("cuda", "tensorrt")

#: (instances, threads) that a CPU with so many cores gets where nobody asks for anything.
DEFAULTS = {
    "offline": {1: (1, 1), 2: (2, 1), 8: (8, 1), 64: (64, 1)},
    "server": {1: (1, 1), 2: (1, 2), 8: (1, 8), 64: (8, 8)},
    "singlestream": {1: (1, 1), 2: (1, 2), 8: (1, 8), 64: (1, 64)},
    "multistream": {1: (1, 1), 2: (1, 2), 8: (1, 8), 64: (1, 64)},
}

scenarios, devices = st.sampled_from(list(SCENARIOS)), st.sampled_from(list(DEVICES))
asked = st.none() | st.integers(1, 64)


@pytest.mark.parametrize("device", CPU_DEVICES)
@pytest.mark.parametrize("cores", [1, 2, 8, 64])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_cpu_is_divided_by_scenario(scenario: str, cores: int, device: str) -> None:
    assert plan(scenario, device, cores) == Parallelism(*DEFAULTS[scenario][cores])


@pytest.mark.parametrize("device", GPU_DEVICES)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_gpu_is_one_instance(scenario: str, device: str) -> None:
    for cores in (1, 2, 8, 64):
        assert plan(scenario, device, cores).instances == 1


@pytest.mark.parametrize(
    ("scenario", "instances", "threads", "found"),
    [
        ("offline", 2, None, (2, 4)),
        ("offline", 3, None, (3, 2)),
        ("offline", None, 4, (2, 4)),
        ("offline", None, 3, (2, 3)),
        ("offline", 2, 1, (2, 1)),
        ("server", 4, None, (4, 2)),
        ("server", None, 2, (4, 2)),
        ("singlestream", None, 3, (1, 3)),
        ("multistream", None, 3, (1, 3)),
    ],
)
def test_what_the_user_asks_for_is_what_there_is_and_the_rest_follows(
    scenario: str, instances: int | None, threads: int | None, found: tuple[int, int]
) -> None:
    shape = plan(scenario, "cpu", 8, instances, threads)
    assert (shape.instances, shape.threads) == found


def test_a_gpu_may_be_given_more_instances() -> None:
    assert plan("offline", "cuda", 8, instances=2) == Parallelism(2, 4, gpus=(0, 0))


@pytest.mark.parametrize("device", GPU_DEVICES)
@pytest.mark.parametrize("scenario", ["offline", "server"])
def test_each_of_several_gpus_is_an_instance(scenario: str, device: str) -> None:
    for cores in (1, 2, 8, 64):  # however few cores there are for them
        shape = plan(scenario, device, cores, gpus=4)
        assert shape == Parallelism(4, max(1, cores // 4), gpus=(0, 1, 2, 3))
        assert shape.used == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("instances", "places"),
    [(1, (0,)), (2, (0, 1)), (3, (0, 1, 2)), (5, (0, 1, 2, 0, 1)), (6, (0, 1, 2, 0, 1, 2))],
)
def test_instances_that_are_asked_for_go_to_the_gpus_in_turn(
    instances: int, places: tuple[int, ...]
) -> None:
    shape = plan("server", "cuda", 8, instances, gpus=3)
    assert shape.gpus == places
    assert [shape.gpu(instance) for instance in range(instances)] == list(places)


@pytest.mark.parametrize("scenario", ["singlestream", "multistream"])
def test_a_scenario_about_latency_has_the_first_gpu(scenario: str) -> None:
    for instances in (None, 6):
        assert plan(scenario, "cuda", 8, instances, gpus=4) == Parallelism(1, 8, gpus=(0,))


@pytest.mark.parametrize("device", CPU_DEVICES)
def test_gpus_change_nothing_on_a_cpu(device: str) -> None:
    shape = plan("offline", device, 8, gpus=4)
    assert shape == plan("offline", device, 8)
    assert (shape.gpus, shape.gpu(3), shape.used) == ((), 0, [0])


@given(scenarios, devices, st.integers(1, 64), asked, asked)
def test_a_plan_keeps_to_the_wishes_and_to_the_cores(
    scenario: str, device: str, cores: int, instances: int | None, threads: int | None
) -> None:
    if (instances or 1) * (threads or 1) > cores:
        with pytest.raises(SuiteError):
            check(cores, instances, threads)
        return
    check(cores, instances, threads)
    shape = plan(scenario, device, cores, instances, threads)
    if scenario in ("singlestream", "multistream"):  # one query at a time
        assert shape.instances == 1
    else:
        assert shape.instances == (instances or shape.instances) >= 1
    assert shape.threads == (threads or shape.threads) >= 1
    assert shape.instances * shape.threads <= cores


@given(scenarios, st.sets(st.integers(0, 200), min_size=1, max_size=64), asked, asked)
def test_pins_give_every_thread_a_cpu_of_its_own_among_those_owned(
    scenario: str, cpus: set[int], instances: int | None, threads: int | None
) -> None:
    owned = sorted(cpus)
    shape = plan(scenario, "cpu", len(owned), instances, threads, owned)
    if shape.instances * shape.threads > len(owned):
        assert shape.pins == ()
        return
    assert len(shape.pins) == shape.instances
    assert {len(pins) for pins in shape.pins} == {shape.threads}
    used = [cpu for pins in shape.pins for cpu in pins]
    assert used == owned[: len(used)]  # neighbours stay together
    assert [shape.cpus(instance) for instance in range(shape.instances)] == list(shape.pins)


def test_nothing_is_pinned_where_a_quota_is_the_limit_or_the_device_does_it_itself() -> None:
    assert plan("offline", "cpu", 2).pins == ()
    for device in ("openvino", *GPU_DEVICES):
        shape = plan("offline", device, 2, owned=(0, 1))
        assert shape.pins == ()
        assert shape.cpus(0) == ()


@pytest.mark.parametrize(
    ("instances", "threads", "complaint"),
    [
        (3, None, "--instances 3 wants 3 cores, but this machine offers 2"),
        (None, 4, "--threads 4 wants 4 cores, but this machine offers 2"),
        (2, 2, "--instances 2 with --threads 2 wants 4 cores, but this machine offers 2"),
    ],
)
def test_more_than_the_cores_is_refused_with_the_options_that_ask_for_it(
    instances: int | None, threads: int | None, complaint: str
) -> None:
    with pytest.raises(SuiteError) as caught:
        check(2, instances, threads)
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


def test_all_cores_may_be_asked_for() -> None:
    check(2, None, None)
    check(2, 2, None)
    check(2, None, 2)
    check(2, 2, 1)
    check(1, 1, 1)
