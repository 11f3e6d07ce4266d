"""What a user can cause and can mend: one family of errors, shown without a traceback, exit code 2."""

from __future__ import annotations

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_STOPPED = 75
"""EX_TEMPFAIL: stopped on request (SIGTERM) after saving; run the same command again to go on."""


class TailmarkError(Exception):
    """A problem the user can mend.

    Args:
        what: what is wrong, in one sentence.
        where: the file, row, option or address it was found at.
        fix: the command or edit that mends it.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(self.render())

    def render(self) -> str:
        """The message as a person reads it: what, where, way out, a line each."""
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)


class ConfigError(TailmarkError):
    """`params.yaml`, a profile or an option is not what the config tree allows."""


class TaxonomyError(TailmarkError):
    """A taxonomy file is malformed, or a marker or value is not in it."""


class DataError(TailmarkError):
    """A source, a shard or a record is missing, corrupt or not as its schema says."""


class ValidationFailed(TailmarkError):
    """The data broke an expectation whose severity is *stop*."""


class ModelError(TailmarkError):
    """A model folder is missing, incomplete, or was not written by tailmark."""


class CheckpointError(TailmarkError):
    """A checkpoint cannot be used to resume, or belongs to other inputs."""


class TrainingError(TailmarkError):
    """Training cannot go on: a loss or gradient that is not finite, a rank that died."""


class TrackingError(TailmarkError):
    """The MLflow store cannot be reached or holds something else than expected."""


class PromotionError(TailmarkError):
    """A promotion or rollback cannot go on: decided otherwise meanwhile, nothing to go back to, or a log that does not hold."""


class EndpointError(TailmarkError):
    """A language model's endpoint cannot be reached, refuses the key, or cannot do what was asked."""


class BudgetExceeded(TailmarkError):
    """The next request would go over a limit of `annotate.llm`; what was paid for is kept."""


class StorageError(TailmarkError):
    """The disk is full or a path cannot be written."""


class StageFailed(TailmarkError):
    """A stage that a flow started ended with an error."""


class Stopped(Exception):
    """Stopped on request after saving what was done; not an error, exit code `EXIT_STOPPED`."""
