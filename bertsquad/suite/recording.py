"""A plugin around pytest-benchmark: its files get written, and it compares like with like.

What was measured is saved before anything else, however the pytest session ended. Neither a
regression nor a full disk ends in a traceback.
"""

import contextlib
from collections.abc import Generator, Iterable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.session import PerformanceRegression
from pytest_benchmark.utils import safe_dumps

from bertsquad.files import cure, reason, write_whole
from bertsquad.results.result import lists
from bertsquad.suite import gate, outcomes
from bertsquad.suite.earlier import benchmark_session, has_earlier, part_unlike, without_earlier

#: By what pytest-benchmark groups, parameters apart.
_GROUPINGS = ("group", "name", "func", "fullname", "fullfunc", "param")

#: The options that ask for pytest-benchmark's tables, and what they are where nobody gave them.
_DRAWING = {
    **dict.fromkeys(("compare", "compare_fail", "verbose", "columns", "time_unit")),
    **dict.fromkeys(("histogram", "cprofile")),
    **{"sort": "min", "group_by": "group", "name": "normal"},
}

#: What of a processor's description changes from one minute to the next.
_FLUCTUATING = ("hz_actual", "hz_actual_friendly")

_NOTHING_COMPARED = (
    "--benchmark-compare-fail compared nothing: no case was timed that the earlier results have"
)

#: The plugin that knows of signals; it isn't imported, so that pytest loads it as it does plugins.
INTERRUPTION = "bertsquad.suite.interruption"

#: The statistics of an earlier entry that pytest-benchmark compares and shows.
_COMPARED = (
    *("min", "max", "mean", "stddev", "median", "iqr", "ops", "rounds", "iterations"),
    *("q1", "q3"),
)

#: The exit statuses of a pytest session in which nothing has failed.
_GREEN = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)

#: Sentences for the end of the pytest session: those that make it fail, and the others.
_FAILURES = pytest.StashKey[list[str]]()
_NOTES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Refuse now what pytest-benchmark would only find out after hours, with a traceback."""
    if getattr(config.option, "benchmark_histogram", None) and find_spec("pygal") is None:
        raise pytest.UsageError(
            "--benchmark-histogram needs pygal: pip install 'pytest-benchmark[histogram]'"
        )
    for word in getattr(config.option, "benchmark_group_by", "group").split(","):
        if word not in _GROUPINGS and not word.startswith("param:"):
            raise pytest.UsageError(
                f"--benchmark-group-by: expected {', '.join(_GROUPINGS)} or param:NAME, not {word}"
            )


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Add what pytest-benchmark doesn't time."""
    carried = outcomes.carried(config.pluginmanager.getplugin("terminalreporter"))
    output_json.update(lists(carried))


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Leave out what would make one machine look like two."""
    for key in _FLUCTUATING:
        machine_info.get("cpu", {}).pop(key, None)


def _can_be_compared(document: Any) -> bool:
    """Whether a document of the storage has what pytest-benchmark compares and shows."""
    return isinstance(document.get("machine_info"), dict) and all(
        isinstance(one.get("fullname"), str)
        and isinstance(one.get("name"), str)
        and isinstance(one.get("extra_info", {}), dict)
        and all(type(one["stats"].get(key)) in (int, float) for key in _COMPARED)
        for one in document["benchmarks"]
    )


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_benchmark_compare_machine_info(
    benchmarksession: Any, machine_info: object, compared_benchmark: dict[str, Any]
) -> Generator[None, object, object]:
    """Warn of another machine's results wherever they lie, and of a file that lacks something.

    pytest-benchmark's own warning raises ValueError where they lie outside of the working folder,
    and such a file would end in a traceback: nothing of it is compared.
    """
    if not _can_be_compared(compared_benchmark):
        benchmarksession.logger.warning(
            "A file of the earlier results is damaged or of another program, so nothing of it is "
            "compared: it lacks what pytest-benchmark's storage has."
        )
        compared_benchmark.update(machine_info=machine_info, benchmarks=[])
    try:
        return (yield)
    except ValueError:
        benchmarksession.logger.warning(
            f"The earlier results in {benchmarksession.storage} are of another machine, or of this "
            "one in another state."
        )
        return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Let a case fail, or be broken off, before it has figures.

    pytest-benchmark would warn that its fixture was not used, an error where all warnings are, as
    it does of every case that didn't skip; so the fixture is taken from its sight.
    """
    try:
        return (yield)
    except BaseException:
        benchmark = getattr(item, "funcargs", {}).pop("benchmark", None)
        if benchmark is not None:
            benchmark.skipped = True
        raise


def fail(config: pytest.Config, sentences: Iterable[str]) -> None:
    """Let the pytest session fail for what sentences say, which stand at its end."""
    config.stash.setdefault(_FAILURES, []).extend(sentences)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """Save the results, and take out what can't be compared, before pytest-benchmark goes on."""
    if ending := session.config.pluginmanager.getplugin(INTERRUPTION):
        ending.save_in_peace(session.config)
    config, benchmarks = session.config, benchmark_session(session.config)
    failures, notes = (config.stash.setdefault(key, []) for key in (_FAILURES, _NOTES))
    # After a usage error nothing has run.
    if benchmarks is not None and session.exitstatus != pytest.ExitCode.USAGE_ERROR:
        reporter = config.pluginmanager.getplugin("terminalreporter")
        repeated = outcomes.repeated(reporter)
        benchmarks.benchmarks[:] = [
            one for one in benchmarks.benchmarks if one.extra_info not in repeated
        ]
        # Its tables alone are left out: where it has saved what is said as always.
        benchmarks.quiet = benchmarks.quiet or not _asks_for_tables(config)
        failures += _save(config, benchmarks)
        failures += _grouped_otherwise(benchmarks)
        notes += without_earlier(benchmarks)
        failures += part_unlike(benchmarks)
        if benchmarks.compare_fail and not config.option.collectonly:
            failures += [] if failures or has_earlier(benchmarks) else [_NOTHING_COMPARED]
    result = yield
    if failures and session.exitstatus in _GREEN:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: Any, config: pytest.Config
) -> Generator[None, object, object]:
    """Say in the end what is wrong with the files, the comparison or the figures."""
    failures, notes = (config.stash.setdefault(key, []) for key in (_FAILURES, _NOTES))
    result: object = None
    try:
        result = yield
    except PerformanceRegression:  # it has printed which
        failures.append("figures are worse than --benchmark-compare-fail allows, as shown above")
    for line in notes:
        terminalreporter.write_line(line)
    for line in failures:
        terminalreporter.write_line(f"ERROR: {line}", red=True)
    return result


def _asks_for_tables(config: pytest.Config) -> bool:
    """Whether pytest-benchmark's tables are wanted: to compare, or by an option that shapes them.

    The table of cases says more, and it is the last on the screen.
    """
    given = {name: getattr(config.option, f"benchmark_{name}") for name in _DRAWING}
    typed = [str(word).partition("=")[0] for word in config.invocation_params.args]
    return any(
        value not in (None, False, [], _DRAWING[name])
        or f"--benchmark-{name.replace('_', '-')}" in typed
        for name, value in given.items()
    )


def _grouped_otherwise(benchmarks: Any) -> list[str]:
    """Group by what every figure has, where one lacks a parameter; a sentence says so."""
    words = [word.removeprefix("param:") for word in benchmarks.group_by.split(",") if ":" in word]
    known = [one.params or {} for one in benchmarks.benchmarks]
    if all(word in params for word in words for params in known):
        return []
    names = ", ".join(sorted(set.intersection(*map(set, known)))) or "none"
    asked, benchmarks.group_by = benchmarks.group_by, "group"
    return [f"--benchmark-group-by={asked}: the parameters that all figures have are {names}"]


def _save(config: pytest.Config, benchmarks: Any) -> list[str]:
    """Write the JSON and the storage that were asked for; a sentence for each that can't be.

    pytest-benchmark finds nothing left to save then. The JSON is written even where no case was
    timed, since it has more in it. In the storage that would pass for the latest figures; so it is
    written there for the gate alone, under a name by which pytest-benchmark finds none.
    """
    place, name = benchmarks.json, benchmarks.save or benchmarks.autosave
    gated = getattr(config.option, "gate", None) is not None
    name = name or (gate.NAME if gated else None)
    benchmarks.json = benchmarks.save = benchmarks.autosave = None
    failures = []
    told = outcomes.carried(config.pluginmanager.getplugin("terminalreporter"))
    if place and not benchmarks.benchmarks and not told and _is_earlier(place):
        place = None  # it stays, since there is nothing to put in its place
    if place:
        try:
            _write(place, _document(config, benchmarks, include_data=True))
        except OSError as error:
            failures.append(_unwritten(place, error, "--benchmark-json"))
        else:
            with contextlib.suppress(OSError):  # the terminal may be gone; the storage comes next
                benchmarks.logger.info(f"Wrote benchmark data in: {place}", purple=True)
    if name and (benchmarks.benchmarks or (gated and told)):
        before = set(_files(benchmarks.storage))
        try:
            document = _document(config, benchmarks, benchmarks.save_data)
            if benchmarks.benchmarks:
                benchmarks.storage.save(document, name)
            else:
                time = f"{datetime.now(UTC):%Y%m%d_%H%M%S_%f}"
                _write(benchmarks.storage.get(f"untimed_{time}_{name}.json"), document)
        except OSError as error:
            failures.append(_unwritten(benchmarks.storage, error, "--benchmark-storage"))
            for path in set(_files(benchmarks.storage)) - before:
                if path.name.endswith(f"_{name}.json"):  # half of one
                    path.unlink()
    return failures


def _document(config: pytest.Config, benchmarks: Any, include_data: bool) -> dict[str, Any]:
    hook = config.hook
    commit = hook.pytest_benchmark_generate_commit_info(config=config)
    hook.pytest_benchmark_update_commit_info(config=config, commit_info=commit)
    document: dict[str, Any] = hook.pytest_benchmark_generate_json(
        config=config,
        benchmarks=benchmarks.benchmarks,
        include_data=include_data,
        machine_info=benchmarks.get_machine_info(),
        commit_info=commit,
    )
    hook.pytest_benchmark_update_json(
        config=config, benchmarks=benchmarks.benchmarks, output_json=document
    )
    return document


def _write(path: Path, document: dict[str, Any]) -> None:
    """Write a file whole or not at all; what is a device or a pipe gets it added."""
    text = f"{safe_dumps(document, indent=4)}\n"  # type: ignore[no-untyped-call]
    if _is_device(path):
        with path.open("a", encoding="utf-8") as device:
            device.write(text)
    else:
        write_whole(path.resolve(), lambda file: file.write_text(text, encoding="utf-8"))


def _is_device(path: Path) -> bool:
    """Whether a path is no plain file; /dev/stdout may lead to one, and must not be replaced."""
    devices = map(Path, ("/dev", "/dev/fd", "/proc/self/fd"))
    return path.absolute().parent in devices or (path.exists() and not path.is_file())


def _is_earlier(path: Path) -> bool:
    """Whether a file with something in it is there."""
    return not _is_device(path) and path.is_file() and path.stat().st_size > 0


def _files(storage: Any) -> list[Path]:
    return list(storage.query()) if hasattr(storage, "query") else []


def _unwritten(place: object, error: OSError, flag: str) -> str:
    way = cure(error, f"choose another place with {flag}")
    return (
        f"{place} could not be written ({reason(error)}): {way}; what was measured stands in the "
        "table and in each result.json"
    )
