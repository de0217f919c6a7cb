"""What a user did and can mend. Each class is a built-in error as well; the rest are bugs."""


class ResattnError(Exception):
    """The base of all errors that say what was wrong, what was expected and what to do.

    The command line shows them in one message. Any other exception is a bug of this project, and
    keeps its traceback.
    """


class ArgumentError(ResattnError, ValueError):
    """An argument, a field of a config or an option that cannot be used."""


class AmbiguousNetwork(ArgumentError):  # noqa: N818  (it is the network that is)
    """A file that fits several networks. candidates: one name for each of them, as --as takes."""

    def __init__(self, message: str, candidates: tuple[str, ...]):
        super().__init__(message)
        self.candidates = candidates


class ModelError(ResattnError, TypeError, ValueError):
    """An object that is no model of ours, or one that was changed."""


class WeightsError(ResattnError, ValueError):
    """Weights that do not fit. faults: every one of them, sorted; the message holds them all."""

    def __init__(self, headline: str, faults: list[str]):
        self.faults = tuple(sorted(faults))
        super().__init__("\n  ".join([headline, *self.faults]))


class MissingFramework(ResattnError, ImportError):  # noqa: N818  (it is what is missing)
    """A framework or a library that is not installed. The message says what to install."""

    def __init__(self, message: str, name: str | None = None):
        super().__init__(message)
        self.name = name


class FileError(ResattnError, OSError):
    """A file that cannot be written or read."""


class MissingFileError(FileError, FileNotFoundError):
    """A file or a folder that does not exist."""


class ProcessError(ResattnError, ChildProcessError):
    """A process of a run on several devices that ended, or that does not answer."""
