"""The exceptions that reach a user; each message is one sentence that says what to do."""


class SuiteError(Exception):
    """What was expected, what was found and what to do about it, in one sentence."""


class Unavailable(SuiteError):
    """Something that this machine doesn't have; `subject` is model, dataset or device.

    A case that merely came with the defaults is skipped for it; one that the user named fails.
    """

    def __init__(self, message: str, subject: str = "device") -> None:
        super().__init__(message)
        self.subject = subject


class BoundUnattainable(SuiteError):
    """Server's latency bound can't be kept at any rate, so no run was made."""


_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate memory", "out of memory")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error, of Python's or of a runtime's, or what caused it, is a lack of memory."""
    if isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY):
        return True
    return error.__cause__ is not None and out_of_memory(error.__cause__)
