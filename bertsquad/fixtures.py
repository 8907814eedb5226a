"""The suite's pytest fixtures: one harness a session, and how a case asks it for its result."""

import os
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bertsquad import cases
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.harness import BoundUnattainable, Harness, flat_properties
from bertsquad.options import Options
from bertsquad.results import Result

OPTIONS = pytest.StashKey[Options]()
#: The result of an item's case, as `Result.as_dict()`; reports carry it to the summary.
RESULT = pytest.StashKey[dict[str, Any]]()

Run = Callable[[cases.Case, str], Result]


@pytest.fixture(scope="session")
def harness(pytestconfig: pytest.Config) -> Iterator[Harness]:
    """What runs cases; it fetches the files and builds the features that they need, once."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    made = Harness(
        pytestconfig.stash[OPTIONS],
        parallel=int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
        command=shlex.join(["pytest", *map(str, pytestconfig.invocation_params.args)]),
        visible=capture.global_and_fixture_disabled,
    )
    yield made
    made.close()


@pytest.fixture
def run(request: pytest.FixtureRequest, harness: Harness) -> Run:
    """Run a case in a mode: its result, a skip for what is merely missing, or a failure."""

    def run_case(case: cases.Case, mode: str) -> Result:
        options = request.config.stash[OPTIONS]
        result: Result | None = None
        skips = False
        try:
            result = harness.run(case, mode)
        except Unavailable as error:
            skips, message = not cases.is_named(error.subject, options), str(error)
        except BoundUnattainable as error:
            skips, message = options.rules != "mlperf", str(error)
        except SuiteError as error:
            message = f"{case.id}: {error}"
        if result is None:  # outside of the handlers, so that the message comes once
            if skips:
                pytest.skip(message)
            pytest.fail(message, pytrace=False)
        request.node.stash[RESULT] = result.as_dict()
        request.node.user_properties.extend(flat_properties(result))
        return result

    return run_case
