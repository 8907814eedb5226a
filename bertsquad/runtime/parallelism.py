"""How a machine is divided: so many instances, each with so many threads, and perhaps on a GPU.

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
    """`instances` with `threads` each; `pins` holds each instance's CPUs, or nothing.

    `gpus` holds each instance's GPU, by its place among those that CUDA shows, or nothing where
    there is one at most.
    """

    instances: int
    threads: int
    pins: tuple[tuple[int, ...], ...] = ()
    gpus: tuple[int, ...] = ()

    def cpus(self, instance: int) -> tuple[int, ...]:
        """The CPUs that the threads of `instance` are pinned to; none if they aren't."""
        return self.pins[instance] if self.pins else ()

    def gpu(self, instance: int) -> int:
        """The GPU that `instance` is on, where it is on any."""
        return self.gpus[instance] if self.gpus else 0

    @property
    def used(self) -> list[int]:
        """The GPUs that any instance is on, where any is on one."""
        return sorted(set(self.gpus)) or [0]


ONE = Parallelism(1, 1)


def plan(
    scenario: str,
    device: str,
    cores: int,
    instances: int | None = None,
    threads: int | None = None,
    owned: Sequence[int] = (),
    gpus: int = 1,
) -> Parallelism:
    """Divide `cores` for a scenario; `instances` and `threads` are what the user asked for.

    On a CPU, Offline gets an instance for each core, since one thread waits for no other; a
    scenario that is about latency gets all cores for one query. `owned` are the CPUs that threads
    may be pinned to, as many as `cores`, or none. Of so many `gpus` each is an instance; other
    instances that are asked for go to them in turn, and a scenario that is about latency has the
    first.
    """
    on_gpu = DEVICES[device].is_gpu
    if scenario in ("singlestream", "multistream"):
        instances = 1  # whatever was asked for, since they have one query at a time
    elif instances is None:
        threads_each = threads or (SERVER_THREADS if scenario == "server" else 1)
        instances = gpus if on_gpu else max(1, cores // threads_each)
    if threads is None:
        threads = max(1, cores // instances)
    if on_gpu:
        return Parallelism(instances, threads, gpus=tuple(i % gpus for i in range(instances)))
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
