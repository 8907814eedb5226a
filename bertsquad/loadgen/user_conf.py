"""LoadGen's `user.conf`: the lines of it that mean BERT."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertsquad.errors import SuiteError
from bertsquad.scenarios import SCENARIOS

#: LoadGen's name of the benchmark. Any other silently loses BERT's constants.
BENCHMARK = "bert"

# LoadGen reads three words a line: without the blanks it would pass over the line in silence.
_CONF_LINE = re.compile(
    r"(?P<model>[\w*-]+)\.(?P<scenario>[A-Za-z*]+)\.(?P<key>\w+)\s+=\s+(?P<value>\S+)"
)
#: The keys that LoadGen reads from a user.conf for BERT's scenarios.
_CONF_KEYS = frozenset(
    """mode target_qps target_latency target_latency_percentile min_duration max_duration
    min_query_count max_query_count samples_per_query coalesce_queries max_async_queries
    qsl_rng_seed sample_index_rng_seed schedule_rng_seed performance_sample_count_override
    performance_issue_unique performance_issue_same performance_issue_same_index
    accuracy_log_rng_seed accuracy_log_probability accuracy_log_sampling_target print_timestamps
    sample_concatenate_permutation""".split()
)
#: The keys of a user.conf that take a fraction; LoadGen reads all others as whole numbers.
_FRACTIONS = ("target_qps", "target_latency", "target_latency_percentile")


@dataclass(frozen=True)
class UserConf:
    """The lines of a user.conf that mean BERT: (model, scenario, key), the first two maybe `*`."""

    path: Path
    settings: Mapping[tuple[str, str, str], float] = field(hash=False)

    def as_dict(self) -> dict[str, Any]:
        """The file, and what in it means BERT, as JSON can hold it."""
        settings = {".".join(key): value for key, value in self.settings.items()}
        return {"file": str(self.path), "settings": settings}

    def of(self, scenario: str) -> dict[str, float]:
        """The value of each key in a scenario; of several lines the most specific one counts."""
        name = SCENARIOS[scenario].loadgen_name
        found: dict[str, float] = {}
        for place in (("*", "*"), (BENCHMARK, "*"), ("*", name), (BENCHMARK, name)):
            found |= {
                key: value for (*at, key), value in self.settings.items() if tuple(at) == place
            }
        return found


def read_user_conf(path: Path) -> UserConf:
    """Read a LoadGen user.conf; SuiteError names the line that LoadGen would stumble over."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path} can't be read as a user.conf: {error}") from error
    settings = {}
    scenarios = {scenario.loadgen_name for scenario in SCENARIOS.values()} | {"*"}
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _CONF_LINE.fullmatch(text)
        if match is not None and match["key"] not in _CONF_KEYS:
            raise SuiteError(f"{path}, line {number}: LoadGen knows no key {match['key']!r}")
        if match is None or match["scenario"] not in scenarios:
            raise SuiteError(
                f"{path}, line {number}: expected model.Scenario.key = value, blanks around the "
                f"equals sign included, found {text!r}"
            )
        fraction = match["key"] in _FRACTIONS
        number_form = r"\d+(\.\d+)?" if fraction else r"\d+"
        value = match["value"]
        if not re.fullmatch(number_form, value, re.ASCII) or (fraction and float(value) == 0):
            expected = "a number above 0" if fraction else "a whole number"
            raise SuiteError(f"{path}, line {number}: expected {expected}, found {text!r}")
        if match["model"] in (BENCHMARK, "*"):
            settings[match["model"], match["scenario"], match["key"]] = float(value)
    return UserConf(path, settings)
