"""What of a user.conf ends a run before it has what it needs.

Where something does, no option helps before that is taken out of the file: `results/advice.py`
names it first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bertsquad.results.result import Result

#: Limits that LoadGen itself names when they end a run, by the kind of the cause.
LIMITS = ("max_duration", "max_query_count", "max_async_queries")
#: The setting with which LoadGen issues no sample twice: a run has those of its buffer alone. The
#: limits can be raised, this can only be taken out.
_UNIQUE = "performance_issue_unique"


@dataclass(frozen=True)
class Need:
    """What a run must reach: so many queries, and so many seconds."""

    queries: float
    seconds: float


def rate(result: Result) -> float | None:
    """The queries a second of a run, as asked in Server and as seen in the others; None in none."""
    if result.scenario == "server" and result.target_qps:
        return result.target_qps
    return (result.query_count or 0) / result.run_time_s or None


def need(result: Result, slack: float = 1.0) -> Need:
    """What a run needs to be VALID: its own minima, and the queries that early stopping wants.

    Where these are more than it would have, `slack` times the seconds in which they fit.
    """
    wanted = [cause.needed for cause in result.invalid_causes if cause.needed is not None]
    queries, seconds = max([result.min_query_count or 0, *wanted]), result.min_duration_s or 0.0
    if per_s := rate(result):
        more = slack if queries > planned(result) else 1.0
        seconds = max(seconds, more * queries / per_s)
        return Need(max(queries, seconds * per_s), seconds)
    return Need(queries, seconds)


def planned(result: Result) -> float:
    """The queries that a run would have if nothing ended it early."""
    per_s, seconds = rate(result) or 0.0, result.min_duration_s or 0.0
    return max(result.min_query_count or 0, seconds * per_s)


def below(result: Result, wanted: Need) -> list[str]:
    """The keys of the user.conf that end a run before it reaches what is wanted."""
    settings = result.settings
    if result.scenario == "offline":  # whose one query nothing ends
        return [_UNIQUE] if settings.get(_UNIQUE) else []
    found = []
    if 0 < settings.get("max_query_count", 0) < wanted.queries:
        found.append("max_query_count")
    if 0 < settings.get("max_duration", 0) < 1000 * wanted.seconds:
        found.append("max_duration")
    samples = wanted.queries * settings.get("samples_per_query", 1)
    if settings.get(_UNIQUE) and (result.buffer_size or 0) < samples:
        found.append(_UNIQUE)
    return found


def in_the_way(result: Result, slack: float = 1.0) -> list[str]:
    """The keys of the user.conf that keep an INVALID run from being VALID, each once."""
    ended = [cause.kind for cause in result.invalid_causes if cause.kind in LIMITS]
    return list(dict.fromkeys([*ended, *below(result, need(result, slack))]))


def removal(keys: Sequence[str]) -> str:
    """What to do about keys that are in the way; nothing where none is."""
    if not keys:
        return ""
    cure = f"take {' and '.join(keys)} out of the user.conf"
    if _UNIQUE in keys:
        return cure
    return f"{cure}, or raise {'it' if len(keys) == 1 else 'them'}"
