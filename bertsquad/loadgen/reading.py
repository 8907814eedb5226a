"""What LoadGen reads in a user.conf. Only the worker imports this module.

LoadGen reads the file and this module looks what came of it, so that no second parser can differ.
LoadGen itself says little: it drops a file for one bad line without naming the line, it passes over
lines in silence, and it reads some numbers as others (`1e3` as 1 where it wants a whole number). So
each line is given to it alone. What it doesn't take, or takes as something else than the line says,
is a SuiteError that names the line.
"""

import math
import os
import tempfile
from decimal import Decimal, InvalidOperation, localcontext
from pathlib import Path
from typing import Any

import mlperf_loadgen as lg

from bertsquad.errors import SuiteError, printable
from bertsquad.loadgen.user_conf import BENCHMARK, UserConf, content, plain
from bertsquad.scenarios import SCENARIOS

#: The beginnings of the names of settings that a single scenario has.
_PREFIXES = {
    "offline": "offline_",
    "singlestream": "single_stream_",
    "multistream": "multi_stream_",
    "server": "server_",
}
#: Keys whose value LoadGen must not have as 0: it would wait for ever on queries of no samples.
_ABOVE_0 = ("target_qps", "target_latency", "target_latency_percentile", "samples_per_query")
#: Keys that LoadGen reads as numbers without a sign, but counts with one.
_COUNTS = ("min_duration", "max_duration", "min_query_count", "max_query_count")
#: What LoadGen can't do with BERT: it ends its process, since no tokens are reported to it.
_OF_LANGUAGE_MODELS = ("use_token_latencies", "infer_token_latencies")

#: No setting holds a number of so many digits before its point.
_DIGITS = 400
#: The key that the suite decides by itself, whatever a file says.
_MODE = "mode"
#: The numbers that LoadGen reads as they stand, by the type of the setting.
_WANTED = {
    bool: "0 or 1",
    int: "a whole number in plain digits, such as 1000",
    float: "a finite number",
}

Settings = dict[str, Any]


class _Line:
    """A line of the file: its words, as LoadGen divides them, and how it is named in messages."""

    def __init__(self, path: Path, number: int, raw: bytes) -> None:
        self.raw = raw
        self._path, self._number = path, number
        text = raw.decode().strip()
        self._text = text if len(text) <= 80 else f"{text[:77]}..."
        self._words = [word.decode() for word in raw.split()]
        # A model's name may have dots, as bert-99.9 has.
        self._parts = self._words[0].rsplit(".", 2) if self._words else []

    def refused(self, why: str) -> SuiteError:
        """The error that says what is wrong with the line."""
        return SuiteError(f"{self._path}, line {self._number}: {why}, found {self._text!r}")

    def __str__(self) -> str:
        return f"line {self._number} ({printable(self._text)})"

    @property
    def is_comment(self) -> bool:
        """Whether the line is empty or a comment."""
        return not self._words or self._words[0].startswith("#")

    @property
    def model(self) -> str:
        """The benchmark's name; SuiteError where the line isn't of the form of one."""
        key = self._words[0]
        if len(self._parts) != 3 or not (key.isascii() and key.isprintable()):
            raise self.refused("expected model.Scenario.key = value with plain blanks around the =")
        return self._parts[0]

    @property
    def is_of_bert(self) -> bool:
        """Whether LoadGen looks for the line when it runs BERT."""
        return self.model in (BENCHMARK, "*")

    def setting(self) -> tuple[str, str, str]:
        """Scenario, key and value of a line of BERT's."""
        if len(self._words) != 3:
            raise self.refused(
                "expected model.Scenario.key = value, with blanks around the = and nothing after "
                "the value"
            )
        scenario, key = self._parts[1:]
        names = [one.loadgen_name for one in SCENARIOS.values()]
        if scenario not in (*names, "*"):
            raise self.refused(f"expected a scenario {', '.join(names)} or *")
        return scenario, key, self._words[2]


class _LoadGen:
    """LoadGen, asked what it reads in a text; it wants a file, which lies in `folder`."""

    def __init__(self, folder: str) -> None:
        self._file = Path(folder) / "user.conf"
        self._starts = [_start(0), _start(1)]

    def takes(self, text: bytes) -> bool:
        """Whether LoadGen takes all lines of a text; it says so whatever the scenario."""
        self._file.write_bytes(text)
        return _apply(self._file, lg.TestSettings(), "offline")

    def sets(self, text: bytes, scenario: str) -> Settings:
        """The settings of a scenario that a text sets, by their names in TestSettings.

        The text sets what comes out alike from two different starts.
        """
        self._file.write_bytes(text)
        results = []
        for start in self._starts:
            made = lg.TestSettings()
            for name, value in start.items():
                setattr(made, name, value)
            _apply(self._file, made, scenario)
            results.append({name: getattr(made, name) for name in start})
        first, second = results
        others = tuple(prefix for name, prefix in _PREFIXES.items() if name != scenario)
        return {
            name: value
            for name, value in first.items()
            if repr(value) == repr(second[name]) and not name.startswith(others)  # nan, too
        }

    def sets_by_key(self, scenario: str, key: str, value: str) -> Settings:
        """What `key = value` sets for BERT in a scenario."""
        name = SCENARIOS[scenario].loadgen_name
        return self.sets(f"{BENCHMARK}.{name}.{key} = {value}".encode(), scenario)


def _start(which: int) -> Settings:
    """One of two sets of values that differ in every setting, and that nobody would choose."""
    usual = lg.TestSettings()
    values = {name: getattr(usual, name) for name in dir(usual) if not name.startswith("_")}
    choice = {bool: (False, True), int: (7_919, 7_927), float: (7_919.5, 7_927.5)}
    return {n: choice[type(v)][which] for n, v in values.items() if type(v) in choice}


def _apply(file: Path, settings: Any, scenario: str) -> bool:
    """Let LoadGen read a user.conf onto settings; False where it drops the file, as it does whole.

    Type 2 is the user's file. The default, 1, works only once in a process.
    """
    name = SCENARIOS[scenario].loadgen_name
    # As bytes: the name of a file need not be UTF-8.
    return bool(settings.FromConfig(os.fsencode(file), BENCHMARK, name, 2) == 0)


def own_settings(scenario: str) -> Any:
    """LoadGen's own settings of BERT in a scenario: its mlperf.conf, which is compiled in."""
    made = lg.TestSettings()
    made.FromConfig("", BENCHMARK, SCENARIOS[scenario].loadgen_name, 0)
    return made


def apply(path: str, settings: Any, scenario: str, expected: dict[str, float]) -> None:
    """Let LoadGen read a user.conf onto the settings of a run.

    SuiteError where the file is no longer the one of which `expected` was read.
    """
    found = read(Path(path)).of(scenario)
    if found != expected or not _apply(Path(path), settings, scenario):
        raise SuiteError(
            f"{path} has changed since pytest began: it set {expected} for {scenario} then, and "
            f"sets {found} now; run the case again"
        )


def read(path: Path) -> UserConf:
    """What LoadGen reads in a user.conf for BERT; SuiteError where it stumbles over it."""
    text = content(path)
    lines = [_Line(path, number, raw) for number, raw in enumerate(text.split(b"\n"), start=1)]
    with tempfile.TemporaryDirectory() as folder:
        loadgen = _LoadGen(folder)
        if not loadgen.takes(text):
            bad = next(line for line in lines if not loadgen.takes(line.raw))
            raise bad.refused(
                "LoadGen drops the whole file for this line; expected model.Scenario.key = number, "
                "with blanks around the = and nothing after the number, or a comment that begins "
                "with # and a blank"
            )
        settings_lines = [line for line in lines if not line.is_comment]
        of_bert = [line for line in settings_lines if line.is_of_bert]
        if not of_bert:
            models = ", ".join(dict.fromkeys(line.model for line in settings_lines))
            raise SuiteError(
                f"no line of {path} is about {BENCHMARK} (lines: {models[:200] or 'none'}): "
                f"expected {BENCHMARK}.Scenario.key = value, or * in place of {BENCHMARK}"
            )
        keys: dict[str, str] = {}  # of user.conf, by the setting's name in TestSettings
        passed_over = []
        for line in settings_lines:
            if line.is_of_bert and (names := _look_at(line, loadgen)):
                keys |= names
            elif line.is_of_bert or line.model.lower().startswith(BENCHMARK):
                passed_over.append(str(line))
        settings, own = {}, {}
        for scenario in SCENARIOS:
            found, usual = loadgen.sets(text, scenario), own_settings(scenario)
            units = {name: loadgen.sets_by_key(scenario, keys[name], "1")[name] for name in found}
            settings[scenario] = {keys[n]: _in_unit(v, units[n]) for n, v in found.items()}
            own[scenario] = {keys[n]: _in_unit(getattr(usual, n), units[n]) for n in found}
        return UserConf(str(path), settings, own, passed_over)


def _look_at(line: _Line, loadgen: _LoadGen) -> dict[str, str]:
    """The settings that a line of BERT's sets, each with its key; none where it is passed over.

    SuiteError where the line would be misread, or is for BERT alone and has a key of no scenario.
    """
    _, key, value = line.setting()
    taken = {name: found for name in SCENARIOS if (found := loadgen.sets(line.raw, name))}
    for scenario, found in taken.items():
        units = loadgen.sets_by_key(scenario, key, "1")
        for name, number in found.items():
            if not _says(value, number, units[name]):
                read = plain(_in_unit(number, units[name]))
                raise line.refused(
                    f"LoadGen would read {key} of {SCENARIOS[scenario].loadgen_name} as {read}; "
                    f"expected {_WANTED[type(units[name])]}"
                )
            _check(line, key, _in_unit(number, units[name]))
    if not taken and line.model == BENCHMARK and key != _MODE and not _is_known(key, loadgen):
        raise line.refused(f"LoadGen knows no key {key!r} in a user.conf")
    return {name: key for found in taken.values() for name in found}


def _check(line: _Line, key: str, value: float) -> None:
    """SuiteError where LoadGen reads a value that it can't run BERT with."""
    if value < 0 or (value == 0 and key in _ABOVE_0):
        raise line.refused(f"expected {key} above 0")
    if key in _COUNTS and value >= 2**63:
        raise line.refused(f"expected {key} below 2**63, from which on LoadGen counts below 0")
    if key == "target_latency_percentile" and value >= 100:
        raise line.refused(f"expected {key} below 100")
    if key in _OF_LANGUAGE_MODELS and value:
        raise line.refused(f"{key} is for language models, and BERT gives no tokens; expected 0")


def _is_known(key: str, loadgen: _LoadGen) -> bool:
    return any(loadgen.sets_by_key(scenario, key, "1") for scenario in SCENARIOS)


def _says(text: str, read: Any, unit: Any) -> bool:
    """Whether a line's number is what LoadGen made of it; `unit` is what it makes of 1."""
    said = _number(text)
    if said is None:
        return False
    if isinstance(unit, bool):
        return bool(bool(said) == read)
    if isinstance(unit, int):
        with localcontext(prec=len(text) + 40):
            return bool(said * unit == read)
    return math.isfinite(read) and math.isclose(float(said) * unit, read, rel_tol=1e-12)


def _number(text: str) -> Decimal | None:
    """The number that a reader sees in a text; None where it is none that a setting can hold."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        try:
            number = Decimal(float.fromhex(text)) if "x" in text.lower() else Decimal("nan")
        except (ValueError, OverflowError):
            return None
    return number if number.is_finite() and number.adjusted() < _DIGITS else None


def _in_unit(value: Any, unit: Any) -> float:
    """A setting in the unit of its key: truth as 0 or 1, whole numbers whole."""
    if isinstance(unit, bool):
        return int(value)
    if isinstance(unit, int):
        return int(value // unit) if value % unit == 0 else float(value / unit)
    return float(f"{value / unit:.12g}")
