"""SIGTERM ends a process in order."""

import signal

import pytest

from bertsquad.termination import Terminated, terminable


def test_sigterm_is_raised_once_and_left_to_others_who_handle_it() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        tidy = False
        with pytest.raises(Terminated), terminable() as came:
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGTERM)
                tidy = True
        assert tidy
        assert came.is_set()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        for theirs in (signal.SIG_IGN, lambda *_: None):
            signal.signal(signal.SIGTERM, theirs)
            with terminable() as came:
                signal.raise_signal(signal.SIGTERM)
            assert not came.is_set()
            assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, before)
