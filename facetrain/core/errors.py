"""The errors a user can cause, each with what was wrong and what to do about it.

`FacetrainError` and its direct children end a command with exit code 1 (the work failed, wholly or in part);
`UsageError` and its children with exit code 2 (nothing was begun). Anything else that reaches the top is a bug.
"""

from typing import TypeVar

Kind = TypeVar("Kind", bound="FacetrainError")


class FacetrainError(Exception):
    """The work failed. `message` says what and where, `hint` what to do."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    @property
    def code(self) -> str:
        """Stable name for JSON documents, such as `data_error`."""
        name = type(self).__name__
        return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


def about(name: object, error: Kind) -> Kind:
    """The same error with what it is about in front, unless its message begins with that already."""
    if error.message.startswith(str(name)):
        return error
    return type(error)(f"{name}: {error.message}", error.hint)


class DataError(FacetrainError):
    """A label line, an image or a model file cannot be read."""


class TrainingError(FacetrainError):
    """Training cannot go on: a loss that is not finite, memory that does not suffice."""


class ExportError(FacetrainError):
    """An exported file does not agree with the model it came from."""


class OutputError(FacetrainError):
    """A result cannot be written."""


class DownloadError(FacetrainError):
    """A file cannot be fetched from the network, or is another one than it should be."""


class UsageError(FacetrainError):
    """The call itself is wrong; nothing was begun."""

    exit_code = 2


class ConfigError(UsageError):
    """A key or value of a model file, or of `--set`, is wrong."""


class InputError(UsageError):
    """Nothing usable at a path or under a name that was given."""


class DeviceError(UsageError):
    """The device asked for is not there."""
