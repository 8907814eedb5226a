"""The errors that users see; each message is one sentence that says what to do."""

from bertsquad.credentials import masked


def printable(text: str) -> str:
    """`text` in one line that changes nothing in a terminal: what shows nothing is escaped.

    A name of a file may hold line ends, a terminal's control sequences, or bytes that are no text.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


class SuiteError(Exception):
    """An error that a user can do something about.

    Its message says in one sentence what was expected, what was found and what to do. Credentials
    in a URL of it are masked.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(masked(message)))


class Unavailable(SuiteError):
    """Something that this machine doesn't have: a model, dataset or device, as `subject` says.

    A case that the user asked for by name fails then; one of the default cases is skipped. The
    message is the `reason`, after the name of what it is `of`, where that is given.
    """

    def __init__(self, reason: str, subject: str = "device", of: str = "") -> None:
        super().__init__(f"{of}: {reason}" if of else reason)
        self.subject = subject
        self.reason = masked(reason)


class BoundUnattainable(SuiteError):
    """No rate of Server keeps its latency bound, so no run was made."""


_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate memory", "out of memory")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python or of a runtime, or the cause of that error, is lack of memory."""
    if isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY):
        return True
    return error.__cause__ is not None and out_of_memory(error.__cause__)


def describe(error: BaseException) -> str:
    """An error of a model, a runtime or a callback as one line for the user."""
    text = " ".join(str(error).split())
    if isinstance(error, SuiteError):
        return text
    if out_of_memory(error):
        return (
            f"memory ran out ({text or type(error).__name__}): a smaller --batch-tokens or "
            "--instances takes less"
        )
    return f"{type(error).__name__}: {text}"
