"""How a machine's cores are divided: so many instances, each with so many threads.

An instance answers one batch at a time; instances answer side by side. Nothing here touches the
machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bertsquad.devices import DEVICES
from bertsquad.errors import SuiteError

#: The padded tokens that a batch may have; a CPU gains nothing from larger batches.
BATCH_TOKENS = 1536

#: In Server an instance gets this many cores: fewer would make a query slow, and with more the
#: threads wait for each other.
SERVER_THREADS = 8


@dataclass(frozen=True)
class Parallelism:
    """`instances` with `threads` each; `pins` holds each instance's CPUs, or nothing."""

    instances: int
    threads: int
    pins: tuple[tuple[int, ...], ...] = ()

    def cpus(self, instance: int) -> tuple[int, ...]:
        """The CPUs that the threads of `instance` are pinned to; none if they aren't."""
        return self.pins[instance] if self.pins else ()


ONE = Parallelism(1, 1)


def plan(
    scenario: str,
    device: str,
    cores: int,
    instances: int | None = None,
    threads: int | None = None,
    owned: Sequence[int] = (),
) -> Parallelism:
    """Divide `cores` for a scenario; `instances` and `threads` are what the user asked for.

    On a CPU, Offline gets an instance for each core, since one thread waits for no other; a
    scenario that is about latency gets all cores for one query. A GPU is one instance. `owned`
    are the CPUs that threads may be pinned to, as many as `cores`, or none.
    """
    if scenario in ("singlestream", "multistream"):
        instances = 1  # whatever was asked for, since they have one query at a time
    elif instances is None:
        threads_each = threads or (SERVER_THREADS if scenario == "server" else 1)
        instances = 1 if DEVICES[device].is_gpu else max(1, cores // threads_each)
    if threads is None:
        threads = max(1, cores // instances)
    if DEVICES[device].schedules_itself or instances * threads > len(owned):
        return Parallelism(instances, threads)
    pins = (owned[index * threads : (index + 1) * threads] for index in range(instances))
    return Parallelism(instances, threads, tuple(map(tuple, pins)))


def check(cores: int, instances: int | None, threads: int | None) -> None:
    """SuiteError unless the machine has the cores that the user asked for."""
    wanted = (instances or 1) * (threads or 1)
    if wanted <= cores:
        return
    asked = [f"--instances {instances}"] if instances else []
    asked += [f"--threads {threads}"] if threads else []
    raise SuiteError(
        f"{' with '.join(asked)} wants {wanted} cores, but this machine offers {cores} (physical "
        "cores, within this process's share): ask for fewer"
    )
