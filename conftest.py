"""Policy: the options, which cases there are, which are skipped and why, header and summary."""

import contextlib
import functools
import os
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bertsquad import console, files
from bertsquad.assets import cache
from bertsquad.credentials import masked
from bertsquad.errors import BoundUnattainable, SuiteError, Unavailable, printable
from bertsquad.machine import gpus, hardware
from bertsquad.results.result import Result
from bertsquad.runtime import parallelism
from bertsquad.scenarios import MODES, SCENARIOS
from bertsquad.suite import (
    cases,
    durations,
    earlier,
    flags,
    gate,
    header,
    outcomes,
    recording,
    required,
    summary,
)
from bertsquad.suite.harness import Harness, RunCase
from bertsquad.suite.options import Options

pytest_plugins = ("bertsquad.suite.interruption",)

OPTIONS = pytest.StashKey[Options]()

MARKERS = {
    "cpu": "cases that run on the CPU: devices cpu and openvino",
    "gpu": "cases that run on an NVIDIA GPU: devices cuda and tensorrt",
    **{name: f"LoadGen's {entry.loadgen_name} scenario" for name, entry in SCENARIOS.items()},
    "accuracy": "cases that assert F1",
    "performance": "cases that record QPS and latency",
    "compliance": "cases that audit a performance run (MLPerf's TEST01)",
    "slow": "tests of the suite itself that take long",
    "cluster": "tests of the suite itself that start nodes of a cluster, which take all cores",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    # Next to pytest's own first ones: of the command line's plugins, conftest.py comes last.
    group = parser.getgroup("bertsquad", "BERT on SQuAD under LoadGen", after="general")
    for option in flags.OPTIONS:
        group.addoption(
            option.flag,
            dest=option.field,
            help=option.help,
            **_taking(option),
        )


def _taking(option: flags.Option) -> dict[str, Any]:
    """What argparse is told of what follows an option."""
    if not option.metavar:
        return {"action": "store_const", "const": option.bare}
    alone = {} if option.bare is None else {"nargs": "?", "const": option.bare}
    action = "append" if option.repeats else "store"
    return {"action": action, "type": _checked(option), "metavar": option.metavar, **alone}


def _checked(option: flags.Option) -> Callable[[str], object]:
    def parse(text: str) -> object:
        try:
            return option.parse(text)
        except SuiteError as error:
            raise pytest.UsageError(f"{option.flag}: {error}") from error
        except OSError as error:
            raise pytest.UsageError(f"{option.flag}: {files.failure(error)}") from error

    return parse


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(recording)
    config.pluginmanager.register(summary)  # the last, so that its lines are so too
    for name, text in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {text}")
    if not _records(config):  # else the plugin registers it
        config.addinivalue_line("markers", "benchmark: settings of pytest-benchmark")
    try:
        config.stash[OPTIONS] = flags.build(vars(config.option))
        given = config.stash[OPTIONS]
        cases.collect(given)
        if given.cluster is None:  # whose nodes have other cores and GPUs
            parallelism.check(_cores(config), given.instances, given.threads)
            gpus.check(given.gpus)
        elif _is_parallel(config):
            raise SuiteError(
                "--cluster can't go with -n, whose processes would each take all of its nodes: "
                "leave -n out"
            )
        if given.gate is not None:
            gate.storage_folder(_storage(config))
        cache.data_folder()  # refuses a folder that can't be, as the next one does
        cache.cache_folder()
    except SuiteError as error:
        raise pytest.UsageError(str(error)) from error


def _storage(config: pytest.Config) -> str:
    if not _records(config):
        raise SuiteError("--gate needs pytest-benchmark, whose storage it reads: let it be loaded")
    given = config.option
    if given.benchmark_disable and not given.benchmark_enable:  # nothing timed would be stored
        raise SuiteError("--gate keeps what pytest-benchmark times: leave --benchmark-disable out")
    return str(given.benchmark_storage)


@pytest.fixture(scope="session")
def progress(pytestconfig: pytest.Config) -> console.Progress:
    """What shows the user how far a case is."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    visible = capture.global_and_fixture_disabled if capture else contextlib.nullcontext
    worker = getattr(pytestconfig, "workerinput", {}).get("workerid", "")
    return console.of_pytest_session(visible, pytestconfig.get_verbosity() < 0, worker)


@pytest.fixture(scope="session")
def gatekeeper(pytestconfig: pytest.Config, progress: console.Progress) -> gate.Gate | None:
    """What compares results with those of the nights before; None without --gate."""
    given = pytestconfig.stash[OPTIONS]
    if given.gate is None:
        return None
    folder = gate.storage_folder(_storage(pytestconfig))
    return gate.Gate(given.gate, given.gate_accept, folder, progress.say)


@pytest.fixture(scope="session")
def harness(pytestconfig: pytest.Config, progress: console.Progress) -> Iterator[Harness]:
    """What runs cases; it fetches the files and builds the features that they need, once."""
    made = Harness(
        pytestconfig.stash[OPTIONS],
        parallel=_workers(pytestconfig),
        command=shlex.join(
            ["pytest", *(masked(str(word)) for word in pytestconfig.invocation_params.args)]
        ),
        progress=progress,
    )
    yield made
    made.close()


@pytest.fixture(scope="session")
def stopwatch(pytestconfig: pytest.Config) -> Iterator[durations.Stopwatch | None]:
    """What notes how long cases take; None where they don't have this machine to themselves."""
    given = pytestconfig.stash[OPTIONS]
    if _is_parallel(pytestconfig) or given.cluster is not None:
        yield None
        return
    made = durations.Stopwatch(given)
    yield made
    made.save()


@pytest.fixture
def run(
    request: pytest.FixtureRequest,
    harness: Harness,
    gatekeeper: gate.Gate | None,
    stopwatch: durations.Stopwatch | None,
) -> Iterator[RunCase]:
    """Run a case in a mode: its result, a skip for what is merely missing, or a failure."""
    outcomes.forget(request.node)

    def run_case(case: cases.Case, mode: str) -> Result:
        given = request.config.stash[OPTIONS]
        result: Result | None = None
        skips = False
        try:
            run_once = functools.partial(harness.run, case, mode)
            if stopwatch is not None:
                run_once = functools.partial(stopwatch.run, case, mode, run_once)
            result = run_once() if gatekeeper is None else gatekeeper.run(run_once)
        except Unavailable as error:
            skips, message = not cases.is_named(error.subject, case, given), str(error)
        except BoundUnattainable as error:
            skips, message = given.rules != "mlperf", str(error)
            if gatekeeper is not None and (kept := gatekeeper.lost(case, given)):
                count = f"{kept} good run{'' if kept == 1 else 's'}"
                skips, message = False, f"{case.id}: gate: {count} kept the bound: {message}"
        except SuiteError as error:
            message = f"{case.id}: {error}"
        except OSError as error:  # of what we write: a full disk, a folder that can't be written
            folders = "choose other folders with --output and BERTSQUAD_CACHE"
            message = f"{case.id}: {files.failure(error, folders)}"
        if result is None:  # outside of the handlers, so that the message comes once
            if skips:
                pytest.skip(message)
            pytest.fail(message, pytrace=False)
        outcomes.keep(request.node, result)
        return result

    yield run_case
    harness.release()  # the test has read what it needs of the run folders


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if {"case", "run"} <= set(metafunc.fixturenames):
        marks = {mark.name for mark in metafunc.definition.iter_markers()}
        mode = next(mode for mode in MODES if mode in marks)
        metafunc.parametrize(
            "case",
            [
                pytest.param(
                    case, id=case.id, marks=[getattr(pytest.mark, m) for m in case.markers]
                )
                for case in cases.collect(metafunc.config.stash[OPTIONS], mode)
            ],
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    given = config.stash[OPTIONS]
    # 0. A test that no case has, as accuracy hasn't for a model of random weights.
    items[:] = [item for item in items if not (_is_of_suite(item) and "NOTSET" in item.name)]
    suite = [(item, case) for item in items if (case := _case(item)) is not None]
    # 1. Cases of the suite run in the order that costs least, compliance after the runs that it
    #    compares with; other tests keep their places.
    suite.sort(key=lambda pair: MODES.index(_mode(pair[0])))
    order = cases.running_order([case for _, case in suite], given, _cores(config))
    ordered = iter([suite[index][0] for index in order])
    items[:] = [item if _case(item) is None else next(ordered) for item in items]
    for item, case in suite:
        # 2. Parallel runs would time each other.
        if _is_parallel(config) and not item.get_closest_marker("accuracy"):
            reason = "cases that measure speed don't run under -n, which would disturb them"
            item.add_marker(pytest.mark.skip(reason=reason))
        # 3. Nothing would record the figures, and the test's fixture is missing.
        if not _records(config) and item.get_closest_marker("performance"):
            reason = "performance cases are recorded by pytest-benchmark, which is off"
            item.add_marker(pytest.mark.skip(reason=reason))
        # 4. A scenario whose queries several machines can't share.
        if (unfit := cases.not_for_clusters(case, given)) is not None:
            item.add_marker(pytest.mark.skip(reason=unfit))
        # 5. A device that isn't here and that nobody named.
        missing = cases.missing_device(case, given)
        if missing is not None and not cases.is_named("device", case, given):
            item.add_marker(pytest.mark.skip(reason=missing))


def _case(item: pytest.Item) -> cases.Case | None:
    callspec = getattr(item, "callspec", None)
    case = callspec.params.get("case") if callspec is not None else None
    return case if isinstance(case, cases.Case) else None


def _is_of_suite(item: pytest.Item) -> bool:
    return {"case", "run"} <= set(getattr(item, "fixturenames", ()))


def _mode(item: pytest.Item) -> str:
    return next(mode for mode in MODES if item.get_closest_marker(mode))


def _records(config: pytest.Config) -> bool:
    """Whether pytest-benchmark is there: `-p no:benchmark` takes it away."""
    return hasattr(config.option, "benchmark_skip")


def _cores(config: pytest.Config) -> int:
    """The cores that each xdist worker has, or the one process."""
    return max(1, hardware.cores() // _workers(config))


def _workers(config: pytest.Config) -> int:
    """How many processes of pytest-xdist divide this machine."""
    here = os.environ.get("PYTEST_XDIST_WORKER_COUNT")
    return int(here or getattr(config.option, "numprocesses", None) or 1)


def _is_parallel(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput") or bool(getattr(config.option, "numprocesses", None))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    if (case := _case(item)) is not None:
        outcomes.shorten(outcome.get_result(), call)
        report = outcome.get_result()
        required.enforce(report, case.id, item.config.stash[OPTIONS])
        outcomes.attach(report, item, case.id, _mode(item))


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: Any, sched: Any) -> None:
    named = cases.of_test(crashitem, sched.config.stash[OPTIONS])
    if named is not None:
        case, mode = named
        outcomes.attach_crash(report, case.id, mode)


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if (
        not (hasattr(config, "workerinput") or config.option.collectonly)
        and OPTIONS in config.stash
    ):
        carried = outcomes.carried(config.pluginmanager.getplugin("terminalreporter"))
        recording.fail(config, required.unmet(carried, config.stash[OPTIONS]))


def pytest_report_header(config: pytest.Config) -> list[str]:
    return [printable(line) for line in header.header(config.stash[OPTIONS])]


def pytest_report_collectionfinish(items: list[pytest.Item]) -> list[str]:
    chosen = [
        (case, _mode(item))
        for item in items
        if (case := _case(item)) is not None and not item.get_closest_marker("skip")
    ]
    if not chosen:
        return []
    return [header.workload(chosen, items[0].config.stash[OPTIONS], durations.read())]


def pytest_collection_finish(session: pytest.Session) -> None:
    timed = {
        item.nodeid: case
        for item in session.items
        if (case := _case(item)) is not None
        and item.get_closest_marker("performance")
        and not item.get_closest_marker("skip")
    }
    try:
        earlier.refuse_unlike(session.config, timed, session.config.stash[OPTIONS])
    except SuiteError as error:
        raise pytest.UsageError(str(error)) from error
