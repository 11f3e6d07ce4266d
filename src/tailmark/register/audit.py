"""Is the promotion log as it was written? The chain, the notes kept outside it, and the verdicts kept with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tailmark.errors import PromotionError
from tailmark.files import sha256_file
from tailmark.register.log import HEAD_TAG, NOTE, Entry, PromotionLog, first_link, parse_entry


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
    problems += _missing_marks(entries, _marks(log, head))
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


def _marks(log: PromotionLog, head: str | None) -> dict[str, str]:
    """Where an entry was noted outside the log: the place, and the entry's number and hash."""
    registry = log.registry
    marks = {}
    for version in registry.versions():
        for name, digest in version.tags.items():
            if name.startswith(NOTE):
                marks[f"version {version.version} notes"] = f"{int(name.removeprefix(NOTE))}:{digest}"
    model = registry.client.search_registered_models(f"name = '{registry.name}'")
    tag = model[0].tags.get(HEAD_TAG) if model else None
    marks |= {"the registered model notes": tag} if tag else {}
    return marks | ({"you give": head} if head else {})


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
                same = sha256_file(log.verdict_file(entry, Path(folder))) == entry.verdict
            except Exception as error:  # each kind of artifact store has its own for a file that is not there
                yield f"the verdict of entry {entry.seq} cannot be read ({type(error).__name__})"
                continue
        if not same:
            yield f"the verdict of entry {entry.seq} was changed"
