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
