"""Requests and user.conf files, as tests ask for them."""

from pathlib import Path
from typing import Any

from bertsquad.loadgen import reading
from bertsquad.loadgen.request import Request


def request(scenario: str = "offline", mode: str = "performance", **others: Any) -> Request:
    given = {"scenario": scenario, "mode": mode, "rules": "quick", "folder": ""} | others
    if path := others.get("user_conf"):
        given["conf"] = reading.read(Path(path)).of(scenario)
    return Request(**given)


def conf(folder: Path, *lines: str) -> str:
    path = folder / "user.conf"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)
