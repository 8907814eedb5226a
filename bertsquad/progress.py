"""What the user sees of what takes long: a bar on a terminal, a line now and then in a log.

Whatever takes long calls a `Show` as often as it likes; a `Progress` decides what comes of it.
Nothing is written but in such a call.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """What goes on and how far it is; a step of another name is another step.

    So many units are `done` (None: they aren't counted) of `expected`. A step with a `duration_s`
    goes on until that is over, counted from the first time it is shown, and `expected` are done.
    """

    name: str
    done: int | None = None
    expected: int | None = None
    unit: str = ""
    duration_s: float | None = None


#: How whatever takes long tells how far it is.
Show = Callable[[Step], object]


def unseen(step: Step) -> None:
    """Show nothing."""
