"""Which cluster is meant: what `--cluster` takes."""

import re
from dataclasses import dataclass

from bertsquad.errors import SuiteError

#: What `--cluster` may be given, as its help and its errors say.
FORMS = "auto|HOST:PORT|local:N"
#: How many nodes `local:N` starts at most: they are for trying, and each takes some 300 MB.
MOST_LOCAL = 64

_LOCAL = "local:"


@dataclass(frozen=True)
class Address:
    """A cluster's address, as it was typed; `local` is the N of `local:N`, else None."""

    text: str
    local: int | None = None

    def __str__(self) -> str:
        return self.text


def parse(text: str) -> Address:
    """A parser that takes the address of a cluster; SuiteError where it is none."""
    if text == "auto":
        return Address(text)
    if text.startswith(_LOCAL):
        count = text.removeprefix(_LOCAL)
        if re.fullmatch(r"[0-9]{1,9}", count) is None or not 1 <= int(count) <= MOST_LOCAL:
            raise SuiteError(
                f"expected local:N with a number of nodes from 1 to {MOST_LOCAL}, got {text!r}"
            )
        return Address(f"{_LOCAL}{int(count)}", int(count))
    if text.startswith("ray://"):
        raise SuiteError(
            f"expected {FORMS}, got {text!r}: Ray's client sends every call through a proxy, which "
            "would be timed; run pytest on a node of the cluster and give the HOST:PORT of its head"
        )
    if host_and_port(text) is None:
        raise SuiteError(f"expected {FORMS}, got {text!r}")
    return Address(text)


def host_and_port(text: str) -> tuple[str, int] | None:
    """The two parts of `HOST:PORT`, an IPv6 address in brackets; None where it is none."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})", text)
    if found is None or not 1 <= int(found[2]) <= 65535:
        return None
    return found[1].strip("[]"), int(found[2])
