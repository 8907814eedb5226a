"""A plugin that ends a pytest session with the answer: advice, and last the table."""

import shutil
from collections.abc import Generator
from typing import Any

import pytest

from bertsquad.errors import printable
from bertsquad.results import table
from bertsquad.suite import outcomes


class _Sentence:
    """A failure as pytest shows it, of which it finds nothing to repeat in its short summary."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    def toterminal(self, writer: Any) -> None:
        """Show it among the failures."""
        writer.line(self._text)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: Any) -> None:
    """Let pytest name a case that failed by a sentence without telling that once more.

    The summary below has it a second time, beside its cure.
    """
    if hasattr(report, "bertsquad") and isinstance(report.longrepr, str):
        report.longrepr = _Sentence(report.longrepr)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Generator[None, object, object]:
    """Show what came of the cases below all that pytest and its other plugins have to say.

    It must be registered after those that want to be last too.
    """
    try:
        return (yield)
    finally:
        if carried := outcomes.carried(terminalreporter):
            terminalreporter.section("BERT on SQuAD")
            width = shutil.get_terminal_size().columns if terminalreporter.isatty else None
            told = terminalreporter.hasopt("skipped")  # by pytest itself, with -ra or -rs
            for line, markup in table.lines(carried, width, skips=not told):
                terminalreporter.write_line(printable(line), **markup)
