"""Errors that a person reads: what was wrong, where, and what to do, in one or two lines.

The command line prints them without a traceback and exits with their ``exit_code``.
"""


class RtpipeError(Exception):
    """Anything rtpipe says in plain words. ``exit_code`` is what the command line exits with."""

    exit_code = 1


class InputError(RtpipeError):
    """Bad input or configuration: a file, a key, an option. Exit code 2."""

    exit_code = 2


class FormatError(InputError):
    """A recording that is empty, truncated, of the wrong kind, or hostile."""


class ConfigError(InputError):
    """A pipeline file with an unknown key, a wrong type or an impossible pair."""


class WireError(RtpipeError):
    """A message that is not a valid packet. ``reason`` is the short name under which it is counted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class WorldError(RtpipeError):
    """The input was good but the world failed: disk full, no permission, a stage that keeps dying. Exit code 1."""
