"""An engine's instances serve one call each, and none once the engine was given up."""

import os
import threading
import time
from pathlib import Path

import engines
import pytest
import tiny

from bertsquad.cluster.instances import Instances
from bertsquad.errors import SuiteError
from bertsquad.runtime.parallelism import Parallelism


@pytest.fixture
def two(tmp_path: Path) -> Instances:
    engine = engines.make_engine(tiny.model(tmp_path / "a.onnx"), parallelism=Parallelism(2, 1))
    return Instances(engine)


def test_no_two_callers_have_one_instance_at_a_time(two: Instances) -> None:
    lock, now, most = threading.Lock(), [0, 0], [0, 0]

    def call() -> None:
        for _ in range(50):
            with two.one() as instance:
                with lock:
                    now[instance] += 1
                    most[instance] = max(most[instance], now[instance])
                time.sleep(0)
                with lock:
                    now[instance] -= 1

    callers = [threading.Thread(target=call) for _ in range(5)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert most == [1, 1]


def test_the_end_waits_for_who_calculates_and_refuses_who_waits(two: Instances) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    told: list[str] = []

    def calculate() -> None:
        with two.one():
            begun.set()
            go_on.wait(10)

    def come_too_late() -> None:
        try:
            with two.one():
                told.append("calculated")
        except SuiteError as error:
            told.append(str(error))

    def end() -> None:
        two.end()
        ended.set()

    busy = [threading.Thread(target=calculate) for _ in range(2)]
    late = [threading.Thread(target=come_too_late) for _ in range(3)]
    for caller in busy:
        caller.start()
    begun.wait(10)
    for caller in late:
        caller.start()
    ending = threading.Thread(target=end)
    ending.start()
    assert not ended.wait(0.2)
    go_on.set()
    for thread in (*busy, *late, ending):
        thread.join(10)
        assert not thread.is_alive()
    assert len(told) == 3 and all("was given up" in one for one in told)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity")
def test_a_thread_that_was_kept_on_a_cpu_may_be_everywhere_again(tmp_path: Path) -> None:
    everywhere = os.sched_getaffinity(0)
    cpu = min(everywhere)
    path = tiny.model(tmp_path / "a.onnx")
    kept = Instances(engines.make_engine(path, parallelism=Parallelism(1, 1, ((cpu,),))))
    found: list[set[int]] = []

    def call() -> None:
        for cpus in ((cpu,), ()):
            kept._keep_on(cpus)
            found.append(os.sched_getaffinity(threading.get_native_id()))

    caller = threading.Thread(target=call)
    caller.start()
    caller.join()
    assert found == [{cpu}, everywhere]
