"""Who answers what: real LoadGen runs of an engine that takes notes, in another process."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gpu_standins
import numpy as np
import pytest
import tiny
from numpy.typing import NDArray

from bertsquad.loadgen import logs
from bertsquad.loadgen.batching import Cost
from bertsquad.loadgen.request import Request
from bertsquad.loadgen.run import settings_for
from bertsquad.models.preparation import Prepared
from bertsquad.runtime.parallelism import Parallelism
from bertsquad.scenarios import SCENARIOS
from bertsquad.squad import features

#: Costs under which a query is best answered sample by sample, and all at once.
NO_BASE, NO_TOKENS = Cost(0.0, 1e-6), Cost(1.0, 0.0)

ONE, TWO = Parallelism(1, 1), Parallelism(2, 1)


@dataclass(frozen=True)
class Call:
    """A batch that an instance was asked for: its shape, and the CPUs that its thread may use."""

    instance: int
    samples: int
    length: int
    cpus: tuple[int, ...]


@dataclass
class Notes:
    """Stands before the `logits` of a real engine and notes who asks it for what."""

    answer: Callable[..., Any]
    calls: list[Call] = field(default_factory=list)
    #: Told the instance before each of its batches.
    before: Callable[[int], None] = lambda instance: None

    def __call__(self, ids: NDArray[np.int64], *others: Any, instance: int = 0) -> Any:
        samples, length = ids.shape
        self.calls.append(Call(instance, samples, length, _cpus()))
        self.before(instance)
        return self.answer(ids, *others, instance=instance)


def _cpus() -> tuple[int, ...]:
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


@dataclass(frozen=True)
class Ran:
    """What is left of a run: what was logged, counted and noted."""

    calls: list[Call]
    responses: list[tuple[int, NDArray[np.float32]]]
    latencies: int
    tokens: int
    padded_tokens: int
    batches: int
    errors: list[str]
    cpus_after: tuple[int, ...]


def run(
    folder: Path,
    scenario: str,
    shape: Parallelism = ONE,
    cost: Cost = NO_BASE,
    budget: int = 1536,
    meet: bool = False,
    fail: bool = False,
    failing_gpu: int | None = None,
    **model: Any,
) -> Ran:
    """As `_run`; on three GPUs' stand-ins where the `shape` has GPUs.

    On `failing_gpu` no batch with the token [CLS] can be calculated.
    """
    if not shape.gpus:
        return _run(folder, scenario, shape, cost, budget, meet, fail, **model)
    failing = tiny.model(folder / "failing.onnx", raises_on=tiny.VOCABULARY.index("[CLS]"))

    def instead(gpu: int, source: gpu_standins.Source) -> gpu_standins.Source:
        return str(failing) if gpu == failing_gpu and isinstance(source, str) else source

    with pytest.MonkeyPatch.context() as patch:
        told = gpu_standins.three(folder, patch, instead)
        found = _run(folder, scenario, shape, cost, budget, meet, fail, **model)
        assert [one.gpu for one in told if one.of_model] == shape.used
        return found


def _run(
    folder: Path,
    scenario: str,
    shape: Parallelism,
    cost: Cost,
    budget: int,
    meet: bool,
    fail: bool,
    **model: Any,
) -> Ran:
    """An accuracy run over `tiny`'s features; in the process pool, since it loads LoadGen.

    With `meet` no instance is answered before all have asked. With `fail` instance 1 fails at its
    first batch, and instance 0 is in the middle of one until LoadGen was told.
    """
    import mlperf_loadgen as lg

    from bertsquad.devices import DEVICES
    from bertsquad.loadgen.sut import OfflineSut, ServerSut, StreamSut
    from bertsquad.runtime.engine import Engine

    file = tiny.model(folder / "tiny.onnx", **model)
    prepared = Prepared(file, tiny.inspect(file))
    device = gpu_standins.CUDA if shape.gpus else DEVICES["cpu"]
    engine: Any = Engine(prepared, device, "fp32", shape, budget)
    notes = engine.logits = Notes(engine.logits)
    built = features.load(folder / "tiny.npz")
    errors: list[str] = []

    def failing(error: BaseException) -> None:
        errors.append(str(error))

    if scenario == "offline":
        sut: Any = OfflineSut(engine, built, failing)
    elif scenario == "server":
        sut = ServerSut(engine, built, failing, cost, 10.0)
    else:
        sut = StreamSut(engine, built, failing, cost)

    barrier = threading.Barrier(shape.instances)
    met: set[int] = set()

    def before(instance: int) -> None:
        if instance not in met and (meet or fail):
            met.add(instance)
            barrier.wait(timeout=20)
        if fail and instance == 1:
            raise ValueError("instance 1 fails")
        deadline = time.monotonic() + 20
        while fail and sut._issued_ns and time.monotonic() < deadline:
            time.sleep(0.001)

    notes.before = before
    request = Request(scenario, "accuracy", "quick", str(folder), len(built))
    output, log = lg.LogOutputSettings(), lg.LogSettings()
    output.outdir = str(folder)
    log.log_output, log.enable_trace = output, False
    qsl = lg.ConstructQSL(len(built), len(built), lambda _: None, lambda _: None)
    settings = settings_for(request, None)
    lg.StartTestWithLogSettings(sut.handle, qsl, settings, log, str(folder / "audit.config"))
    lg.DestroyQSL(qsl)
    sut.close()
    timeline = sut.timeline
    assert sut.answered == timeline.batch_samples.sum()
    return Ran(
        notes.calls,
        [] if errors else list(logs.read_accuracy_log(folder).items()),
        len(timeline.latencies_ns),
        int(timeline.batch_tokens.sum()),
        int(timeline.batch_padded_tokens.sum()),
        len(timeline.batch_samples),
        errors if sut.error is not None else [],
        _cpus(),
    )


Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as made:
        yield made


@pytest.fixture
def ran(pool: ProcessPoolExecutor, tmp_path: Path) -> Run:
    features.save(tiny.build_features(tmp_path), tmp_path / "tiny.npz")

    def one(scenario: str, shape: Parallelism = ONE, **others: Any) -> Ran:
        return pool.submit(partial(run, tmp_path, scenario, shape, **others)).result(timeout=60)

    return one


def check_answers(found: Ran, folder: Path, hardwired: bool = False) -> None:
    """Every sample was answered with the model's own logits."""
    assert found.errors == []
    expected = tiny.answers(features.load(folder / "tiny.npz"), hardwired)
    answered = dict(found.responses)
    assert sorted(answered) == list(range(len(expected)))
    for sample, logits in answered.items():
        assert logits == pytest.approx(expected[sample], abs=1e-4)


def instances_of(calls: Sequence[Call]) -> set[int]:
    return {call.instance for call in calls}


@pytest.mark.parametrize("scenario", ["offline", "server"])
def test_instances_answer_side_by_side(ran: Run, tmp_path: Path, scenario: str) -> None:
    found = ran(scenario, TWO, meet=True)
    check_answers(found, tmp_path)
    assert instances_of(found.calls) == {0, 1}
    assert found.latencies == len(found.responses) == 30


@pytest.mark.parametrize("scenario", ["offline", "server"])
def test_an_instance_that_fails_leaves_no_sample_open_and_the_others_stop(
    ran: Run, tmp_path: Path, scenario: str
) -> None:
    found = ran(scenario, TWO, fail=True)
    assert found.errors == ["instance 1 fails"]
    assert found.latencies == found.batches == 0  # the other's batch came too late to count
    assert len(found.calls) < 10
    check_answers(ran(scenario, TWO), tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize("scenario", ["offline", "server"])
def test_every_gpu_answers_batches_and_one_that_fails_is_named(
    ran: Run, tmp_path: Path, scenario: str
) -> None:
    each = Parallelism(3, 1, gpus=(0, 1, 2))
    found = ran(scenario, each, meet=True)
    check_answers(found, tmp_path)
    assert instances_of(found.calls) == {0, 1, 2}
    failed = ran(scenario, each, meet=True, failing_gpu=1)
    (error,) = failed.errors
    assert error.startswith("cuda on GPU 1 (Tesla T4) failed: ")
    assert "out of data bounds" in error
    assert instances_of(failed.calls) == {0, 1, 2}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_was_run_is_counted(ran: Run, tmp_path: Path, scenario: str) -> None:
    built = features.load(tmp_path / "tiny.npz")
    found = ran(scenario)
    check_answers(found, tmp_path)
    # LoadGen fills MultiStream's last query, so that some samples come twice.
    samples = sum(call.samples for call in found.calls)
    assert samples == (32 if scenario == "multistream" else 30)
    assert found.batches == len(found.calls)
    assert found.padded_tokens == sum(call.samples * call.length for call in found.calls)
    assert built.lengths.sum() <= found.tokens <= found.padded_tokens
    if scenario == "singlestream":
        assert found.padded_tokens == found.tokens == built.lengths.sum()


def test_multistream_answers_in_several_batches_where_that_is_sooner(
    ran: Run, tmp_path: Path
) -> None:
    split, whole = (ran("multistream", cost=cost, budget=8 * 384) for cost in (NO_BASE, NO_TOKENS))
    for found in (split, whole):
        check_answers(found, tmp_path)
        assert found.latencies == 4  # one a query, however it was answered
    assert {call.samples for call in whole.calls} == {8}
    assert whole.batches == 4
    assert split.batches > 2 * whole.batches
    assert split.padded_tokens < whole.padded_tokens


@pytest.mark.parametrize("scenario", ["offline", "multistream", "server"])
def test_no_batch_has_more_tokens_than_the_budget(ran: Run, tmp_path: Path, scenario: str) -> None:
    found = ran(scenario, cost=NO_TOKENS, budget=384)
    check_answers(found, tmp_path)
    assert max(call.samples * call.length for call in found.calls) == 384
    assert max(call.samples for call in found.calls) > 1


def test_padding_to_a_models_fixed_length_is_padding_too(ran: Run, tmp_path: Path) -> None:
    found = ran("offline", length=384, hardwired=True)
    check_answers(found, tmp_path, hardwired=True)
    built = features.load(tmp_path / "tiny.npz")
    assert (found.tokens, found.padded_tokens) == (built.lengths.sum(), 30 * 384)


@pytest.mark.skipif(len(_cpus()) < 2, reason="needs two CPUs to choose from")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_instance_keeps_to_its_cpus_until_the_run_has_ended(ran: Run, scenario: str) -> None:
    first, second = _cpus()[:2]
    found = ran(scenario, Parallelism(2, 1, ((second,), (first,))))
    for call in found.calls:
        assert call.cpus == ((second,), (first,))[call.instance]
    assert found.cpus_after == _cpus()
