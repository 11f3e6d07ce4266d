"""Is the promotion log as it was written? The chain, the notes kept outside it, and the verdicts kept with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tailmark.errors import PromotionError
from tailmark.files import read_json, sha256_file
from tailmark.register.log import Entry, PromotionLog, first_link, parse_entry
from tailmark.register.promote import former_champions


def check(log: PromotionLog, head: str | None = None) -> list[str]:
    """What is wrong with the log; empty if every entry is as it was written.

    Args:
        head: number and hash of an entry (`7:ab12...`) noted outside the store, which the log must still hold.
    """
    entries: list[Entry] = []
    problems: list[str] = []
    for key, text in log.stored():
        try:
            entries.append(parse_entry(key, text))
        except PromotionError as error:
            problems.append(error.what)
    problems += broken_links(entries, log.registry.name)
    problems += broken_decisions(entries)
    problems += _missing_marks(entries, log.notes() | ({"you give": head} if head else {}))
    problems += _changed_verdicts(log, entries)
    return problems


def broken_links(entries: Sequence[Entry], name: str) -> Iterator[str]:
    """Where the chain of model `name` does not hold."""
    expected, number = first_link(name), 0
    for entry in entries:
        if entry.seq != number:
            yield f"entries {number} to {entry.seq - 1} were removed" if entry.seq > number + 1 else f"entry {number} was removed"
        elif entry.prev != expected:
            yield f"entry {entry.seq} does not follow from the one before: entry {max(number - 1, 0)} or {number} was changed or moved"
        expected, number = entry.digest, entry.seq + 1


def broken_decisions(entries: Sequence[Entry]) -> Iterator[str]:
    """Where an entry says what its decision cannot have done."""
    champion: str | None = None
    for place, entry in enumerate(entries):
        said = entry.decision.replace("_", " ")
        if entry.before != champion:
            yield f"entry {entry.seq} names champion {entry.before or 'none'} before it, the entries before it {champion or 'none'}"
        if entry.champion != (entry.before if entry.decision == "refused" else entry.version):
            yield f"entry {entry.seq} has version {entry.version} {said} and champion {entry.champion or 'none'} after it"
        if entry.decision == "rolled_back" and entry.version not in former_champions(entries[:place]):
            yield f"entry {entry.seq} goes back to version {entry.version}, which was no champion before"
        if entry.decision != "rolled_back" and entry.verdict is None:
            yield f"entry {entry.seq} ({said}) has no verdict"
        champion = entry.champion


def _missing_marks(entries: Sequence[Entry], marks: dict[str, str]) -> Iterator[str]:
    held = {entry.mark for entry in entries}
    for place, mark in marks.items():
        if mark not in held:
            number = mark.partition(":")[0]
            yield f"entry {number} is not in the log as {place}: it was changed or removed"


def _changed_verdicts(log: PromotionLog, entries: Sequence[Entry]) -> Iterator[str]:
    for entry in entries:
        if entry.verdict is None:
            continue
        with TemporaryDirectory(prefix="tailmark-") as folder:
            try:
                files = log.verdict_files(entry, Path(folder))
                same = sha256_file(files / "verdict.json") == entry.verdict
                verdict = read_json(files / "verdict.json") if same else {}
                same = same and verdict.get("page") in (None, sha256_file(files / "verdict.html"))
            except Exception as error:  # each kind of artifact store has its own for a file that is not there
                yield f"the verdict of entry {entry.seq} cannot be read ({type(error).__name__})"
                continue
        if not same:
            yield f"the verdict of entry {entry.seq} was changed"
        elif not _agrees(entry, verdict):
            yield f"the verdict of entry {entry.seq} is on another version or says otherwise"


def _agrees(entry: Entry, verdict: Mapping[str, Any]) -> bool:
    """Whether a decision is the one that its verdict, and the person's answer kept with it, ask for."""
    judged, answer = verdict.get("challenger", {}), verdict.get("approval")
    agreed = bool(verdict.get("passed")) and (answer is None or bool(answer.get("approved")))
    subject = judged.get("version") == entry.version and judged.get("manifest") == entry.manifest
    return subject and agreed == (entry.decision == "promoted")
