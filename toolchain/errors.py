"""The errors that a person sees: what is wrong, what to do, and the exit code."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command (docs/reference/exit-codes.md)."""

    DONE = 0
    PROMISE_BROKEN = 1
    BAD_INPUT = 2
    MISSING = 3
    UNDECIDED = 4
    DEFECT = 70
    INTERRUPTED = 130


class EdgetlError(Exception):
    """Something the user can act on. `message` says what is wrong, `hint` what to do about it."""

    exit_code: ExitCode = ExitCode.BAD_INPUT

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class EdgetlWarning(UserWarning):
    """Something that the user should know; the work goes on. The command line shows it as one line."""


class ArtifactWarning(EdgetlWarning):
    """A model file may answer otherwise on this machine than on the one that it was proven on."""


class StoppedError(KeyboardInterrupt):
    """SIGTERM or a closed terminal: a polite end, which is no mistake of the command where there is nothing to
    finish. A KeyboardInterrupt, so that whatever heeds Ctrl-C heeds it as well."""


class BadInputError(EdgetlError):
    """A wrong option, a broken file, data that cannot be used. Exit code 2."""


class UnreadableImageError(BadInputError):
    """An image file that cannot be decoded whole. Exit code 2 where it is the only input."""


class ArtifactError(BadInputError):
    """A model file that is not a whole and valid edgetl artifact. Exit code 2."""


class MissingError(EdgetlError):
    """This machine lacks something: a device, an optional package, a camera, data. Exit code 3."""

    exit_code = ExitCode.MISSING


class FallbackError(MissingError):
    """A runtime did start, but on another device than the one asked for. Exit code 3."""


class PromiseBrokenError(EdgetlError):
    """A promise was measured and not kept: accuracy drop, parity, regression. Exit code 1."""

    exit_code = ExitCode.PROMISE_BROKEN
