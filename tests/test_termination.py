"""Ctrl-C, SIGTERM and SIGHUP end a process in order."""

import signal
import sys
import time
from collections.abc import Iterator

import pytest

from bertsquad import termination
from bertsquad.termination import Terminated, terminable

ENDING = [signal.SIGTERM]
if sys.platform != "win32":
    ENDING.append(signal.SIGHUP)
ALL = [signal.SIGINT, *ENDING]


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """The handlers that a process starts with."""
    before = {number: signal.getsignal(number) for number in ALL}
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_is_raised_once_and_left_to_others_who_handle_it(number: signal.Signals) -> None:
    tidy = False
    with pytest.raises(Terminated, match=f"ended by {number.name}") as raised, terminable() as told:
        try:
            signal.raise_signal(number)
        finally:
            for other in ALL:
                signal.raise_signal(other)
            tidy = True
    assert tidy
    assert told.status == raised.value.status == 128 + number
    assert signal.getsignal(number) is signal.SIG_DFL
    for theirs in (signal.SIG_IGN, lambda *_: None):
        signal.signal(number, theirs)
        with terminable() as told:
            signal.raise_signal(number)
        assert told.status is None
        assert signal.getsignal(number) is theirs


def test_ctrl_c_that_comes_again_does_not_disturb_the_cleaning_up_nor_what_follows() -> None:
    tidy = 0
    with pytest.raises(KeyboardInterrupt) as raised, terminable() as told:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            for _ in range(3):
                signal.raise_signal(signal.SIGINT)
                tidy += 1
    assert tidy == 3
    assert not isinstance(raised.value, Terminated)
    assert told.status is None
    signal.raise_signal(signal.SIGINT)  # the process ends already


def test_who_insists_ends_the_cleaning_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(termination, "INSIST_S", 0.01)
    with terminable():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            time.sleep(0.02)


def test_sigterm_comes_through_after_a_ctrl_c_that_something_has_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(termination, "INSIST_S", 0.01)
    with terminable() as told:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        time.sleep(0.02)
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
        time.sleep(0.02)
        signal.raise_signal(signal.SIGTERM)
    assert told.status == 128 + signal.SIGTERM


def test_a_process_that_was_told_nothing_has_its_handlers_back() -> None:
    with terminable() as told:
        pass
    assert not told.to_end
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, None), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_a_signal_that_comes_when_all_is_over_disturbs_no_saving(
    number: signal.Signals, status: int | None
) -> None:
    with terminable() as told:
        told.finish()
        signal.raise_signal(number)
        signal.raise_signal(number)
    assert told.status == status
