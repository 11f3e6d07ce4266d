"""The last accepted version: the profile that a person judged right, kept in git, one file per profile of options."""

from __future__ import annotations

from pathlib import Path

from tailmark.config import Config
from tailmark.console import say
from tailmark.errors import DataError, ValidationFailed
from tailmark.files import read_json, write_json
from tailmark.layout import Layout


def accepted_path(config: Config, layout: Layout) -> Path:
    """Where the accepted profile stands: `accepted/<profile>.json`."""
    return layout.accepted / f"{config.profile}.json"


def accept(config: Config, layout: Layout) -> None:
    """Make the distributions of the last validation the accepted ones.

    Raises:
        ValidationFailed: that validation was stopped by something else than drift.
        DataError: there was none.
    """
    aside = layout.state / "validation-failed"
    folder = aside if (aside / "profile.json").exists() else layout.validated
    if not (folder / "profile.json").exists():
        raise DataError("There is no validation to accept.", where=str(layout.validated), fix="run `dvc repro validate` first")
    stopped = [name for name in read_json(folder / "result.json")["failed"]["stop"] if not name.startswith("drift.")]
    if stopped:
        raise ValidationFailed(
            f"The last validation was stopped by more than drift: {', '.join(stopped)}.",
            where=str(folder / "report.html"),
            fix="mend that first, and run `dvc repro validate` again",
        )
    path = accepted_path(config, layout)
    write_json(path, read_json(folder / "profile.json"))
    say(f"validate: accepted; commit {path.relative_to(layout.root)} and run `dvc repro`")
