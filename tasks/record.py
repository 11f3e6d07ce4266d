"""How a run ends, written into its record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.exceptions import TerminationSignal

from tailmark.errors import Stopped
from tailmark.runs import RunFile
from tasks.git import has_branch
from tasks.workspace import branch_of

STOPPED = (KeyboardInterrupt, Stopped, TerminationSignal)
"""What a run that was asked to stop ends with; `TerminationSignal` is what Prefect makes of SIGTERM."""


@contextmanager
def recorded(file: RunFile, home: Path) -> Iterator[None]:
    """Note how the block ends, and the run's branch, where there is one then."""
    try:
        yield
        file.end("finished")
    except STOPPED:
        file.end("stopped")
        raise
    except BaseException as error:
        file.end("failed", (str(error).splitlines() or [type(error).__name__])[0])
        raise
    finally:
        branch = branch_of(file.record.name)
        file.update(branch=branch if has_branch(home, branch) else None)
