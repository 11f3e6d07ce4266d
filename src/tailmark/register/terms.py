"""Under which terms a benchmark was run: two versions' scores are compared only where these are the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tailmark.config import HELDOUT_NAMES
from tailmark.files import read_json
from tailmark.register.fetch import Fetched

Terms = Mapping[str, Any]

_ANSWERED = frozenset({"language", "language_alone", "length", "length_alone"})
"""What is asked of held-out rows and answered in text."""

_OF_NO_EFFECT = frozenset(
    {
        *("languages", "limit", "max_limit", "modes", "settings", "sources", "tasks"),
        *("include_path", "path", "references", "words", "workers"),
    }
)
"""Options that say which items are asked, or where their files lie: they change no item's score."""


def terms_of(side: Fetched, score: str) -> Terms | None:
    """What a score (`benchmark/score`) depends on beside the model: options, the content of the files read, the judges it names.

    Returns None where the evidence does not say.
    """
    benchmark, name = score.split("/")
    if benchmark in HELDOUT_NAMES:
        options = side.manifest.lineage.params.get("evaluate", {})
        return {"max_new_tokens": options.get("max_new_tokens")} if benchmark in _ANSWERED else {}
    path = side.evidence / "benchmarks.json"
    entries = read_json(path)["benchmarks"].get(benchmark) if path.exists() else None
    return dict(_told(entries[0], name)) if entries else None


def _told(entry: Mapping[str, Any], score: str) -> Iterator[tuple[str, Any]]:
    yield from ((key, value) for key, value in entry["options"].items() if key not in _OF_NO_EFFECT)
    yield "the content of its files", sorted(str(told["sha256"]) for told in entry["files"].values())
    judges = entry["found"].get("judges", {})
    for name in sorted(set(score.split("_")) & set(judges)):
        passed_over = {"title", "requests"} | ({"model"} if "sha256" in judges[name] else set())
        yield from ((f"judge {name}: {key}", value) for key, value in judges[name].items() if key not in passed_over)


def differences(mine: Terms, theirs: Terms) -> Sequence[str]:
    """Where two terms differ, each as a reader sees it."""
    return [_difference(key, mine.get(key), theirs.get(key)) for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]


def _difference(key: str, mine: object, theirs: object) -> str:
    short = all(value is None or isinstance(value, str | int | float) for value in (mine, theirs))
    return f"{key} ({_shown(mine)} here, {_shown(theirs)} of the champion)" if short else key


def _shown(value: object) -> str:
    return "none" if value is None else str(value)[:80]
