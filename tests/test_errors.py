import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsquad.errors import SuiteError, Unavailable, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, naïve 東京", "plain, naïve 東京"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("two\nlines\r", r"two\nlines\r"),
        ("\udcff", r"\udcff"),
        ("left\u202eright", r"left\u202eright"),
    ],
    ids=["plain", "control", "line ends", "no text", "bidirectional"],
)
def test_what_shows_nothing_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_every_text_becomes_one_that_any_terminal_can_show(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(text).encode("utf-8") is not None
    assert printable(printable(text)) == printable(text)


@pytest.mark.parametrize("kind", [SuiteError, Unavailable])
def test_a_message_is_printable_whatever_name_is_in_it(kind: type[SuiteError]) -> None:
    assert str(kind("\x1b[31m\udc80.json\n can't be read")) == (
        r"\x1b[31m\udc80.json\n can't be read"
    )
