"""What every command of this package does with what goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tailmark.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, Stopped, TailmarkError
from tasks import process
from tasks.record import STOPPED


def guarded(action: Callable[[], None]) -> int:
    """Do something, saying in the end what went wrong as a person reads it; returns the exit code."""
    try:
        action()
    except TailmarkError as error:
        print(f"\n{error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except STOPPED as error:
        process.end_all()
        said = str(error) if isinstance(error, Stopped) else "Stopped."
        print(f"\n{said} The next run goes on from what is complete.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0
