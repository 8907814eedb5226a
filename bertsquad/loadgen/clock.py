"""The clock by which LoadGen times a run, compared with one that never steps.

LoadGen reads the system's clock. When that is set meanwhile (by NTP, by hand, when a virtual
machine wakes), a run ends too early, too late or not at all, and LoadGen still calls it VALID.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from bertsquad.errors import SuiteError

#: How far the two clocks may be apart: as a share of the run, and always. Both are slewed alike, so
#: that only a step takes them apart.
SHARE, LEAST_S = 0.001, 0.005
#: A step back makes LoadGen wait as long. A larger step than this ends the run at once.
AT_ONCE_S = 5.0
#: Seconds between two looks at the clocks while a run goes on.
LOOK_S = 0.5

#: How close together the two clocks must be read, in ns, and how often that is tried.
_CLOSE_NS, _TRIES = 100_000, 20


@dataclass(frozen=True)
class Reading:
    """Both clocks at one moment, in ns: the system's, and one that never steps."""

    system_ns: int
    steady_ns: int

    @property
    def offset_ns(self) -> int:
        """The difference of the two, which changes only when the system's clock is set."""
        return self.system_ns - self.steady_ns


def read() -> Reading:
    """Both clocks now; they are read again where something came between."""
    found: list[tuple[int, Reading]] = []
    while not found or (found[-1][0] > _CLOSE_NS and len(found) < _TRIES):
        before, system_ns, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        found.append((after - before, Reading(system_ns, (before + after) // 2)))
    return min(found, key=lambda one: one[0])[1]


@dataclass(frozen=True)
class Course:
    """What was read during a run: the first, the last, and the one furthest from the first."""

    first: Reading
    last: Reading
    furthest: Reading

    @classmethod
    def begin(cls, reading: Reading) -> "Course":
        """A run that begins now."""
        return cls(reading, reading, reading)

    def until(self, reading: Reading) -> "Course":
        """The run until `reading`."""
        start = self.first.offset_ns
        further = abs(reading.offset_ns - start) > abs(self.furthest.offset_ns - start)
        return replace(self, last=reading, furthest=reading if further else self.furthest)

    def stepped_s(self, least_s: float = LEAST_S, expected_s: float = 0.0) -> float | None:
        """By how many seconds the system's clock stepped, back where negative; None if it didn't.

        A difference counts if it is more than `least_s` and than `SHARE` of the run, which lasts
        `expected_s` or longer.
        """
        stepped_s = (self.furthest.offset_ns - self.first.offset_ns) / 1e9
        lasted_s = (self.last.steady_ns - self.first.steady_ns) / 1e9
        allowed_s = max(least_s, SHARE * max(lasted_s, expected_s))
        return stepped_s if abs(stepped_s) > allowed_s else None


def stepped(seconds: float) -> SuiteError:
    """The error for a run in which the system's clock stepped by so many seconds."""
    way = "ahead" if seconds > 0 else "back"
    return SuiteError(
        f"the system's clock, by which LoadGen times, stepped {way} by {abs(seconds):.3f} s during "
        "the run, so that its figures are wrong: keep the clock from being set meanwhile (NTP, a "
        "machine that sleeps), and run the case again"
    )


class Watch:
    """Looks at the clocks while a run goes on, which is as long as it is a context."""

    def __init__(self, expected_s: float, give_up: Callable[[SuiteError], object]) -> None:
        """`give_up` is told a step so large that LoadGen might wait for long."""
        self._expected_s = expected_s
        self._give_up = give_up
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep_looking, name="clock", daemon=True)
        self._course: Course

    def __enter__(self) -> "Watch":
        self._course = Course.begin(read())
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        """Look at the clocks now, so that no step is missed that comes back soon; about 4 us."""
        reading = read()
        with self._lock:
            self._course = self._course.until(reading)

    @property
    def stepped_s(self) -> float | None:
        """By how many seconds the system's clock stepped in the run that is over; None if not."""
        return self._course.stepped_s()

    def _keep_looking(self) -> None:
        while not self._over.wait(LOOK_S):
            self.look()
            seconds = self._course.stepped_s(AT_ONCE_S, self._expected_s)
            if seconds is not None:
                self._give_up(stepped(seconds))
                return
