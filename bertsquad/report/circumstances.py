"""On what and how runs were made, as tables: their environment, and everything else they say."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from bertsquad.report.exhibits import Table
from bertsquad.results import nodes
from bertsquad.results.result import Result

#: The keys of the provenance that say on what a case ran; equal for all cases of a pytest session.
ENVIRONMENT = (
    *("machine", "cpu", "sockets", "physical_cores", "cores", "cpu_quota", "memory_bytes"),
    "gpus",
    *("instruction_sets", "threads_per_core", "numa_nodes", "governor", "turbo"),
    *("hypervisor", "container"),
    *("operating_system", "versions", "suite_version", "git_revision"),
)

#: Where nothing there means that the system didn't say it, not that there is none.
_UNTOLD = {
    *("instruction_sets", "threads_per_core", "numa_nodes", "governor", "turbo"),
    "hypervisor",
}

_SHOWN_ELSEWHERE = (
    *("timeline", "provenance", "warnings", "disturbances", "doubt", "reason"),
    *("nodes", "nodes_lost", "gate"),
)


def environments(newest: Sequence[Result]) -> Table:
    """What the runs ran on, a column for each environment that differs.

    Of a run on a cluster it is that of the machine that drove it, after what its nodes are.
    """
    alike: dict[str, list[dict[str, Any]]] = {}
    for run in newest:
        environment: dict[str, Any] = {"nodes": nodes.machines(run)} if run.nodes else {}
        environment |= {key: run.provenance.get(key) for key in ENVIRONMENT}
        text = json.dumps(environment, sort_keys=True, default=str)
        alike.setdefault(text, []).append(environment)
    columns = [dict(_flat(environments[0])) for environments in alike.values()]
    head = ("", *(f"{len(one)} run{'s' if len(one) > 1 else ''}" for one in alike.values()))
    keys = dict.fromkeys(key for column in columns for key in column)
    return Table(head, [(_named(key), *(str(one.get(key, "")) for one in columns)) for key in keys])


def _named(key: str) -> str:
    return key.removeprefix("versions.").removesuffix("_bytes").replace("_", " ")


def made(result: Result) -> Table:
    """Everything that a result says of how it was made, a row a key."""
    # What is long is left out before as_dict copies it.
    short = replace(result, timeline={}, provenance={}, nodes=[])
    shown = {
        key: value
        for key, value in short.as_dict().items()
        if key not in _SHOWN_ELSEWHERE and value is not None
    }
    rest = {key: one for key, one in result.provenance.items() if key not in ENVIRONMENT}
    return Table(("key", "value"), [*_flat(shown), *_flat(rest)])


def is_number(value: Any) -> bool:
    """Whether a value is a number, which Python counts True and False among."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _flat(value: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """The keys of a document, those inside of others joined by dots, and what to show of each."""
    for key, one in value.items():
        name = f"{prefix}{key}"
        if isinstance(one, dict):
            yield from _flat(one, f"{name}.")
        elif key == "memory_bytes" and is_number(one):
            yield name, f"{one / 2**30:.1f} GiB"
        elif isinstance(one, list):
            yield name, "; ".join(map(str, one)) or "none"
        elif isinstance(one, bool):
            yield name, "yes" if one else "no"
        elif one is None:
            yield name, "unknown" if key in _UNTOLD else "none"
        else:
            yield name, one if is_number(one) else str(one) or "none"
