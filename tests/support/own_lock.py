"""A plugin of pytest: timed runs wait for those with the same TMPDIR, not for the machine's others.

Each test that gives its pytest sessions a TMPDIR of their own thus runs beside the others.
"""

import hashlib
import tempfile

from bertsquad.machine import device_lock


def name_in(folder: str) -> str:
    """The name of the locks of pytest sessions whose TMPDIR is `folder`."""
    return f"bertsquad-tests-{hashlib.sha256(folder.encode()).hexdigest()}"


device_lock.NAME = name_in(tempfile.gettempdir())
