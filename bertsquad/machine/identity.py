"""Which machine this is: the same from boot to boot, so that its runs have one history."""

import hashlib
import os
import platform
from pathlib import Path

#: Names the machine oneself, as where each run is in a container that is made anew.
VARIABLE = "BERTSQUAD_MACHINE"


def given() -> str:
    """The name that the user gave this machine by `BERTSQUAD_MACHINE`; empty where none was."""
    return os.environ.get(VARIABLE, "").strip()


def name() -> str:
    """The machine's name for people: the one given by `BERTSQUAD_MACHINE`, else the host's."""
    return given() or platform.node() or "unknown"


def identity(root: Path = Path("/")) -> str:
    """12 hexadecimal digits that no other machine has.

    They are made of the name given by `BERTSQUAD_MACHINE`, or of the system's `machine-id`, which
    is to be kept secret itself (`man machine-id`), or of the host's name where there is none.
    """
    if own := given():
        kind, value = "name", own
    elif found := _machine_id(root):
        kind, value = "machine-id", found
    else:
        kind, value = "host", platform.node()
    return hashlib.sha256(f"bertsquad {kind} {value}".encode()).hexdigest()[:12]


def _machine_id(root: Path) -> str:
    """The system's own identity; nothing where it has none, or none yet (`uninitialized`)."""
    for place in ("etc/machine-id", "var/lib/dbus/machine-id"):
        try:
            text = (root / place).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if len(text) == 32:  # digits that `man machine-id` promises
            return text
    return ""
