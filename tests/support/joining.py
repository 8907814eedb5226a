"""A process that joins a cluster as a worker does, and tells what came of it."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from typing import Any

from bertsquad.cluster.membership import Membership

JOIN = """
import json, sys
from dataclasses import asdict

from bertsquad.cluster.connection import connect, members
from bertsquad.cluster.membership import Membership
from bertsquad.errors import Unavailable

try:
    ray = connect(Membership(**json.loads(sys.argv[1])))
except Unavailable as error:
    print(json.dumps({"error": str(error), "subject": error.subject}))
else:
    print(json.dumps({"nodes": [asdict(one) for one in members(ray)]}))
    ray.shutdown()
"""


def join(
    membership: Membership, home: str | None = None, code: str = JOIN, **variables: str
) -> dict[str, Any]:
    """What `connect` gives or says in a process of its own, whose home may be `home`."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(asdict(membership))],
        env={**inherited, **({"HOME": home} if home else {}), **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)  # nothing of Ray's is beside it
    return told
