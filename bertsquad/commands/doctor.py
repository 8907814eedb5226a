"""What this machine can run, and why not the rest."""

import argparse
from typing import Any

from bertsquad import __version__
from bertsquad.assets import cache, registry
from bertsquad.console import echo
from bertsquad.errors import SuiteError
from bertsquad.machine import gpus, hardware, identity, processor, provenance, tuning
from bertsquad.worker.handle import try_devices


def add(commands: Any) -> None:
    """Add the command to those of the command line."""
    made = commands.add_parser("doctor", help="what this machine can run, and why not the rest")
    made.set_defaults(run=_doctor)


def _doctor(given: argparse.Namespace) -> int:
    echo(f"bertsquad {__version__}")
    echo("versions: " + ", ".join(f"{name} {v}" for name, v in provenance.versions().items()))
    echo(f"machine:  {identity.name()} ({hardware.cpu_name()}, {hardware.cores()} cores)")
    echo(f"GPU:      {gpus.summary()}")
    found, quota = processor.read(), hardware.quota()
    echo("processor:")
    for name, what in tuning.in_full(found, quota):
        echo(f"  {name}: {what}")
    echo(f"data:     {cache.data_folder()}")
    echo(f"cache:    {cache.cache_folder()}")
    echo("files:")
    for name in registry.entries():
        path = registry.path_of(name)
        try:
            here = registry.is_here(path)
            state = f"ok ({registry.fetch(name)})" if here else "not here (fetch gets it)"
        except SuiteError as error:
            state = str(error)
        echo(f"  {name}: {state}")
    echo("devices:")
    tried = try_devices()
    loaded = provenance.versions(tried.versions)
    for name, version in provenance.claimed(tried.versions).items():
        echo(f"  {name} {loaded[name]} is loaded, though {version} is installed by that name")
    for name, reason in tried.reasons.items():
        state = f"no: {reason}" if reason else f"ok ({', '.join(tried.precisions[name])})"
        echo(f"  {name}: {state}")
    cores = len(hardware.core_cpus())
    openvino, is_named = not tried.reasons["openvino"], bool(identity.given())
    advice = tuning.advice(found, quota, cores, openvino=openvino, is_named=is_named)
    echo("advice:" if advice else "advice: none")
    for sentence in advice:
        echo(f"  {sentence}")
    return 0
