"""One error for each thing a caller can do differently; each carries its documented exit code.

A message says what, where, expected, got, and what to do. Command lines print it on standard error,
without a traceback, and exit with `exit_code`.
"""


class PatchlineError(Exception):
    """Base of every error that Patchline raises on purpose."""

    exit_code = 1


class SettingsError(PatchlineError):
    """Command line, settings file or environment is wrong: mend it and start again."""

    exit_code = 2


class BundleError(PatchlineError):
    """A bundle or an IR directory is missing, damaged or of another version: use another one."""

    exit_code = 3


class SourceError(PatchlineError):
    """A source of frames or pictures cannot be opened or read: check the path, cable or address."""

    exit_code = 4


class SelfTestError(PatchlineError):
    """This device does not reproduce the bundle's golden scores: do not trust its verdicts."""

    exit_code = 5


class DeliveryError(PatchlineError):
    """A broker refuses us for a reason that waiting does not mend (credentials, certificate, topic)."""

    exit_code = 6


class OutboxError(DeliveryError):
    """Messages cannot be kept on disk: free space, mend the disk, or stop the process that holds the outbox."""


class OutboxInUseError(OutboxError):
    """Another process has the outbox: an outbox serves one station."""


class ExportError(PatchlineError):
    """A model cannot be converted or a product cannot be taught from what was given."""

    exit_code = 7


class ResultsError(ExportError):
    """Results of an evaluation or experiment are missing, damaged or of another version: evaluate again."""


class AuditError(PatchlineError):
    """Verdicts are not accounted for: the report names them."""

    exit_code = 8
