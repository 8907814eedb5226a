"""What the pytest process and the worker say to each other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Event = dict[str, Any]
OnEvent = Callable[[Event], None]


@dataclass(frozen=True)
class Setup:
    """What a child is made for: one model on one device in one precision, over one data set.

    `threads` are for preparing the model. To quantise it, the windows `calibration_windows` of the
    features `calibration` serve (`calibration_note` in words); where there are none, the note says
    why.
    """

    model: str
    model_key: str
    features: str
    device: str
    precision: str
    threads: int
    calibration: str | None = None
    calibration_windows: tuple[int, ...] = ()
    calibration_note: str = "no calibration data was given"


#: What a child is asked instead of a Setup to say which devices this machine has.
DEVICES_ASKED = "devices"
