"""How work that takes long reports its progress.

It calls a `Show` with a `Step` as often as it likes; `console.Progress` decides what the user sees.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """What is being done, and how far it is; a new title begins a new step.

    `of` is what it is done for, such as a case, where that must be said.
    `done` units of `expected` are finished; None if they aren't counted. A step with a `duration_s`
    lasts that long from the first time it is shown, and until all `expected` are done.
    """

    name: str
    done: int | None = None
    expected: int | None = None
    unit: str = ""
    duration_s: float | None = None
    of: str = ""

    @property
    def title(self) -> str:
        """The name, after what the step is done for."""
        return f"{self.of}: {self.name}" if self.of else self.name


#: What a function that takes long calls to report its progress.
Show = Callable[[Step], object]


def unseen(step: Step) -> None:
    """Show nothing."""
