"""What a cluster on this machine leaves behind: nothing, once it has ended."""

import contextlib
import re
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """A folder for processes to work in; all that they start has it as its working folder."""

    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        """Where they write to."""
        return {"TMPDIR": str(self.temporary), "HOME": str(self.home)}

    @property
    def temporary(self) -> Path:
        return self.folder / "t"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def processes(self, named: str = "") -> dict[int, str]:
        """What runs here: each process id with its command line, where `named` is in that."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cwd").readlink().is_relative_to(self.folder):
                    words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if words and named in words:  # a zombie has no words
                        found[int(process.name)] = words
            except OSError:  # it has just ended, or is another user's
                continue
        return found

    def open_ports(self) -> set[int]:
        """The TCP ports at which what runs here listens to every interface."""
        sockets = set()
        for pid in self.processes():
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    sockets.update(re.findall(r"socket:\[(\d+)\]", str(link.readlink())))
        lines = [
            line.split()
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        ]
        return {
            int(line[1].rpartition(":")[2], 16)
            for line in lines
            # 0A is a socket that listens, and zeros alone are every interface.
            if line[3] == "0A" and line[9] in sockets and not line[1].partition(":")[0].strip("0")
        }

    def wait_for(self, named: str, count: int = 1) -> list[int]:
        """The process ids of so many processes, when they are there."""
        until = time.monotonic() + 60
        while len(found := self.processes(named)) < count:
            assert time.monotonic() < until, f"no {named}: {self.processes()}"
            time.sleep(0.02)
        return sorted(found)

    def left_over(self, seconds: float = 10.0) -> dict[str, object]:
        """What is still there after so many seconds at most; empty when all is gone."""
        until = time.monotonic() + seconds
        while (found := self._found()) and time.monotonic() < until:
            time.sleep(0.05)
        return found

    def _found(self) -> dict[str, object]:
        sockets = re.findall(rf"\S*{self.folder}\S*", Path("/proc/net/unix").read_text())
        found = {
            "processes": self.processes(),
            "files": [*self.temporary.iterdir()],
            "at home": [*self.home.iterdir()],
            "sockets": sockets,
            "shared memory": [*Path("/dev/shm").glob("*plasma*"), *_nobodys()],
        }
        return {what: those for what, those in found.items() if those}


def _nobodys() -> list[Path]:
    """The folders in memory of clusters whose guardian has ended: others may run meanwhile."""
    found = Path("/dev/shm").glob("bsq-*")
    return [one for one in found if not Path("/proc", one.name.split("-")[1]).exists()]
