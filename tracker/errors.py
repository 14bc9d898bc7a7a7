"""Errors that a user can mend. The commands print them as one line and exit with status 1."""


class TrackerError(Exception):
    """Base of every error that the user can do something about; the message says what to do."""


class CameraError(TrackerError):
    """A camera or a recording could not be opened or read."""


class CameraTimeout(CameraError):
    """A live camera gave no frame within the time allowed; reading again may succeed."""


class EngineError(TrackerError):
    """An inference engine is not installed, or cannot run the network it was given."""


class WeightsError(TrackerError):
    """A weights file is missing, unreadable, or does not fit the network."""


class StreamError(TrackerError):
    """An endpoint could not be bound or connected, or a message could not be understood."""


def missing_package(package: str, purpose: str, install: str) -> str:
    """The one wording for an optional package that is not there."""
    return f"{purpose} needs the package {package}, which is not installed: {install}"


class DataError(TrackerError):
    """A training or evaluation file is missing, damaged, or not of the form that was expected."""


class ProfileError(TrackerError):
    """A hand profile is missing, unreadable, or of no hand that a person has."""
