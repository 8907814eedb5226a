"""A plugin of pytest: timed runs wait for those with the same TMPDIR, not for the machine's others.

Each test that gives its pytest sessions a TMPDIR of their own thus runs beside the others.
"""

import hashlib
import tempfile

from bertsquad.machine import device_lock

device_lock.NAME = f"bertsquad-tests-{hashlib.sha256(tempfile.gettempdir().encode()).hexdigest()}"
