"""The system description that a submission needs, from results and from a TOML file to fill in."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bertsquad import __version__
from bertsquad.errors import SuiteError
from bertsquad.files import unreadable, unwritable
from bertsquad.results.result import Result
from bertsquad.submission import hardware

DIVISIONS = ("open", "closed")
STATUSES = ("available", "preview", "rdi")

#: The file to fill in, as the first call writes it.
_TEMPLATE = Path(__file__).with_name("answers.toml")

#: The keys of a system description, and those of them that may be empty (constants.py of the
#: submission checker).
_SYSTEM_KEYS = tuple(
    """division submitter status system_name number_of_nodes host_processor_model_name
    host_processors_per_node host_processor_core_count host_memory_capacity host_storage_capacity
    host_storage_type accelerators_per_node accelerator_model_name accelerator_memory_capacity
    framework operating_system system_type other_software_stack host_processor_frequency
    host_processor_caches host_memory_configuration host_processor_interconnect host_networking
    host_networking_topology accelerator_frequency accelerator_host_interconnect
    accelerator_interconnect accelerator_interconnect_topology accelerator_memory_configuration
    accelerator_on-chip_memories cooling hw_notes sw_notes host_network_card_count
    system_type_detail""".split()
)
_MAY_BE_EMPTY = frozenset(
    """host_processor_frequency host_processor_caches host_processor_interconnect
    accelerator_frequency accelerator_interconnect_topology accelerator_on-chip_memories hw_notes
    sw_notes system_type_detail""".split()
)
_ACCELERATOR_KEYS = tuple(
    """accelerator_memory_capacity accelerator_host_interconnect accelerator_interconnect
    accelerator_memory_configuration""".split()
)

#: The keys of the TOML file that hold a text, and those of its table `measurements`.
_TEXTS = ("division", "submitter", "system", "status")
_MEASUREMENTS = ("retraining", "starting_weights_filename", "weight_transformations")


@dataclass(frozen=True)
class Answers:
    """What the TOML file says."""

    division: str
    submitter: str
    system: str
    status: str
    system_description: Mapping[str, str]
    measurements: Mapping[str, str]


def read_answers(path: Path) -> Answers:
    """Read the TOML file; if there is none, write it and raise a SuiteError that says so."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _written(path) from None
    except OSError as error:
        raise unreadable(path, error) from error
    except RecursionError as error:
        raise SuiteError(f"{path} can't be read as TOML: it is nested too deep") from error
    except ValueError as error:  # also a number of too many digits, and what is no text
        raise SuiteError(f"{path} can't be read as TOML: {error}") from error
    unknown = sorted(set(document) - {*_TEXTS, "system_description", "measurements"})
    if unknown:
        raise SuiteError(f"{path}: unknown key {unknown[0]!r}: remove it")
    texts = {key: _filled(path, key, document.get(key)) for key in _TEXTS}
    for key, allowed in (("division", DIVISIONS), ("status", STATUSES)):
        if texts[key] not in allowed:
            raise SuiteError(
                f"{path}: {key} must be one of {', '.join(allowed)}, not {texts[key]!r}"
            )
    for key in ("submitter", "system"):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", texts[key]):
            raise SuiteError(
                f"{path}: {key} becomes a folder's name, so only letters, digits, ., _ and - are "
                f"allowed, not {texts[key]!r}"
            )
    described, measured = document.get("system_description", {}), document.get("measurements", {})
    for name, table in (("system_description", described), ("measurements", measured)):
        if not isinstance(table, dict):
            raise SuiteError(f"{path}: {name} must be a table, as in the file first written")
    unknown = sorted(set(described) - set(_SYSTEM_KEYS))
    if unknown:
        raise SuiteError(f"{path}: system_description has no key {unknown[0]!r}: remove it")
    fixed = sorted(set(described) & {"division", "submitter", "status", "system_type"})
    if fixed:
        raise SuiteError(f"{path}: {fixed[0]} doesn't belong in system_description: remove it")
    return Answers(
        **texts,
        system_description={
            key: _filled(path, f"system_description.{key}", value)
            for key, value in described.items()
        },
        measurements={
            key: _filled(path, f"measurements.{key}", measured.get(key)) for key in _MEASUREMENTS
        },
    )


def _written(path: Path) -> SuiteError:
    """Write the TOML file to fill in; the error that says so."""
    try:
        path.write_bytes(_TEMPLATE.read_bytes())
    except OSError as error:
        return unwritable(path, error, "choose another with --answers")
    return SuiteError(f"{path} was written: fill in what it asks for, then run this command again")


def _filled(path: Path, key: str, value: object) -> str:
    """The text that was filled in for a key; SuiteError if there is none."""
    if not isinstance(value, str) or not value.strip():
        raise SuiteError(f"{path}: {key} is empty: fill it in, as text in quotes")
    return value.strip()


def system_description(answers: Answers, result: Result) -> dict[str, str]:
    """The system description with all its keys, from a result of the whole system and the answers.

    What it says of a node is true of all, which are alike.
    """
    provenance, node = result.provenance, hardware.of_nodes(result)[0]
    cores = node.physical_cores // max(1, node.sockets) or 1
    gpus = node.gpus
    versions = provenance["versions"]
    stack = versions | (result.nodes[0].versions if result.nodes else {})  # theirs has Ray
    # Results of before there was a key for it have one of two.
    known = (str(provenance.get("runtime")), "onnxruntime-gpu", "onnxruntime")
    runtime = next((versions[name] for name in known if name in versions), "of unknown version")
    found = {
        "division": answers.division,
        "submitter": answers.submitter,
        "status": answers.status,
        "number_of_nodes": str(result.number_of_nodes),
        "host_processor_model_name": node.cpu,
        "host_processors_per_node": str(node.sockets),
        "host_processor_core_count": str(cores),
        "host_memory_capacity": f"{node.memory_bytes / 2**30:.0f} GiB",
        "accelerators_per_node": str(len(gpus)),
        "accelerator_model_name": ", ".join(dict.fromkeys(gpus)) if gpus else "N/A",
        "framework": f"ONNX Runtime {runtime}, {result.provider}",
        "operating_system": node.operating_system,
        "system_type": "edge",
        "other_software_stack": ", ".join(f"{name} {v}" for name, v in stack.items()),
        "sw_notes": f"bertsquad {__version__}, revision {provenance['git_revision']}",
    }
    if not gpus:
        found |= dict.fromkeys(_ACCELERATOR_KEYS, "N/A")
    found |= answers.system_description
    empty = [key for key in _SYSTEM_KEYS if key not in _MAY_BE_EMPTY and not found.get(key)]
    if empty:
        raise SuiteError(f"system_description.{empty[0]} is empty: fill it in in the answers file")
    return {key: found.get(key, "") for key in _SYSTEM_KEYS}
