"""What ended a training, told by its cause: what a rank can tell before what followed from it in the others."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from tailmark import errors
from tailmark.errors import Stopped, TailmarkError, TrainingError
from tailmark.files import read_json
from tailmark.train.job import Job

Note = Mapping[str, str]

_AGAIN = "mend the cause and run the same command again: training goes on from the last checkpoint"
_LOG_LINES = 15

_WAITED = re.compile(r"timed?.?out|timeout", re.IGNORECASE)
_LEFT_ALONE = re.compile(
    r"connection (closed|reset|refused|was aborted)|broken pipe|socket closed|failed to recv|failed to send"
    r"|remote process exited|unhandled system error|aborted communicators",
    re.IGNORECASE,
)
_ENDED_BY = re.compile(r"^ *rank +: (\d+) .*\n *exitcode +: -(\d+) ", re.MULTILINE)


def failure(job: Job, code: int) -> Exception:
    """The reason why the ranks ended, as the user should see it.

    Args:
        code: the launcher's exit code.
    """
    notes = {_rank(path): read_json(path) for path in sorted(job.scratch.glob("problem-*.json"), key=lambda path: path.stat().st_mtime)}
    own = sorted(((rank, note) for rank, note in notes.items() if not _followed(note)), key=lambda item: item[1]["kind"] == "crash")
    return _as_error(*own[0], job) if own else _lost_rank(job, notes, code)


def _rank(path: Path) -> int:
    return int(path.stem.removeprefix("problem-"))


def _followed(note: Note) -> bool:
    """Whether a crash only says that another rank was gone or did not answer."""
    return note["kind"] == "crash" and bool(_LEFT_ALONE.search(note["what"]) or _WAITED.search(note["what"]))


def _as_error(rank: int, note: Note, job: Job) -> Exception:
    if note["kind"] == "Stopped":
        return Stopped(note["what"])
    kind = getattr(errors, note["kind"], None)
    if isinstance(kind, type) and issubclass(kind, TailmarkError):
        return kind(note["what"], where=note.get("where"), fix=note.get("fix"))
    where = f"rank {rank}, {note.get('where') or 'unknown place'}; its traceback is in {job.log}"
    return TrainingError(f"Rank {rank} failed: {note['what']}", where=where, fix=_AGAIN)


def _lost_rank(job: Job, notes: Mapping[int, Note], code: int) -> Exception:
    """A rank ended, or fell silent, without a word of its own; the others may have noticed."""
    log = job.log.read_text(encoding="utf-8", errors="replace") if job.log.exists() else ""
    # Where the launcher looks late it may call a rank the root cause that only noticed. Of several signals the root cause's stands last.
    ended = _ENDED_BY.findall(log)
    if ended:
        rank, number = ended[-1]
        return _error(f"Rank {rank} was ended by {_signal_name(int(number))}.", job, f"where nobody sent it, memory ran out: {_AGAIN}")
    silent = [str(rank) for rank in range(job.world_size) if rank not in notes]
    named = f"Rank{'s' * (len(silent) > 1)} {', '.join(silent)}"
    if notes and not silent:  # the network, not one of them
        return _as_error(*next(iter(notes.items())), job)
    if not notes:
        return _error(f"The launcher ended with {code} and no rank said why.", job, _AGAIN, lines=log.splitlines()[-_LOG_LINES:])
    if any(_WAITED.search(note["what"]) for note in notes.values()):
        minutes = job.config.train.timeout_minutes
        return _error(f"{named} did not answer for {minutes} min (train.timeout_minutes) while the others waited.", job, _AGAIN)
    return _error(f"{named} ended without a word: killed, or out of memory, or the machine is gone.", job, _AGAIN)


def _error(what: str, job: Job, fix: str, lines: Sequence[str] = ()) -> TrainingError:
    return TrainingError(what, where="\n".join([str(job.log), *(f"    {line}" for line in lines)]), fix=fix)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
