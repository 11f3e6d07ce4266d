"""The promotion log: who decided what, when and why. A chain of hashes kept in the registry's own store.

An entry is a parameter of one MLflow run. MLflow writes a parameter once: the store's unique key lets one of two writers have a number,
over HTTP as on a file, and no client can change it later. Each entry holds the hash of the one before, so that who changes, removes or
reorders entries in the database itself is found (`audit`); entries removed at the end are found by the notes kept elsewhere.
"""

from __future__ import annotations

import getpass
import json
import re
import uuid
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tailmark import tracking
from tailmark.errors import PromotionError
from tailmark.files import sha256_json
from tailmark.register.registry import Registry

if TYPE_CHECKING:
    from mlflow.entities import Run

RUN_TAG, HEAD_TAG, NOTE = "promotion_log.run", "promotion_log.head", "promotion_log."
_KEY = re.compile(r"entry\.(\d{6})")
_NOTE = re.compile(re.escape(NOTE) + r"(\d{6})")
_LONGEST = 6000
"""MLflow cuts a longer parameter without a word."""
LONGEST_SAID = 300
"""Most characters of a reason, a name, or what a person writes with an answer."""

Decided = Literal["promoted", "refused", "rolled_back"]


class Entry(BaseModel):
    """One decision.

    Attributes:
        seq: its number, from 0; `prev`: hash of the entry before (of the model's name for the first).
        id: drawn at random, so that no two writers ever write the same.
        version: what was decided on; `before`, `champion`: the champion before and after.
        manifest: sha256 of the version's manifest.
        verdict: sha256 of the `verdict.json` kept with the log; None for a rollback.
        approval: who agreed or refused, and why; None where nobody was asked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seq: int
    prev: str
    id: str
    time: str
    who: str
    decision: Decided
    version: str
    before: str | None
    champion: str | None
    manifest: str
    reasons: tuple[str, ...]
    verdict: str | None = None
    approval: dict[str, str] | None = None

    @property
    def digest(self) -> str:
        """sha256 of the entry: what the next one holds as `prev`."""
        return sha256_json(self.model_dump(mode="json"))

    @property
    def key(self) -> str:
        """The parameter's name."""
        return f"entry.{self.seq:06d}"

    @property
    def mark(self) -> str:
        """Number and hash, as noted outside the log."""
        return f"{self.seq}:{self.digest}"


@dataclass(frozen=True)
class Decision:
    """What is to be appended, before it has a place in the chain."""

    decision: Decided
    version: str
    before: str | None
    champion: str | None
    manifest: str
    reasons: tuple[str, ...]
    verdict: str | None = None
    approval: dict[str, str] | None = None
    id: str = ""


@dataclass(frozen=True)
class PromotionLog:
    """The log of one registered model."""

    registry: Registry

    def entries(self) -> list[Entry]:
        """All entries by number, as they are stored; empty before the first decision.

        Raises:
            PromotionError: an entry cannot be read.
        """
        return [parse_entry(key, text) for key, text in self.stored()]

    def held(self) -> list[Entry]:
        """As `entries`, after every entry that is noted outside the log was found in it: on what was cut off, nothing may be built.

        Raises:
            PromotionError: a noted entry is not there, or one cannot be read.
        """
        noted = self.notes()  # first: an entry is written before it is noted
        entries = self.entries()
        marks = {entry.mark for entry in entries}
        for place, mark in noted.items():
            if mark not in marks:
                raise PromotionError(
                    f"Entry {mark.partition(':')[0]} is not in the promotion log as {place}: it was changed, removed or moved away.",
                    where=self.registry.uri,
                    fix="look at `tailmark log verify`, and restore the experiment or the entry first; until then nothing is decided",
                )
        return entries

    def notes(self) -> dict[str, str]:
        """Where an entry is noted outside the log: the place, and the entry's number and hash."""
        model = self.registry.registered()
        if model is None:
            return {}
        noted = {"the registered model notes": model.tags[HEAD_TAG]} if HEAD_TAG in model.tags else {}
        for version in self.registry.versions():
            for name, digest in version.tags.items():
                if match := _NOTE.fullmatch(name):
                    noted[f"version {version.version} notes (entry {int(match[1])})"] = f"{int(match[1])}:{digest}"
        return noted

    def append(self, decision: Decision) -> Entry:
        """Write the next entry. Of several writers each gets a number of its own, unless the champion changed meanwhile.

        Raises:
            PromotionError: another decision moved the champion since `decision.before` was read; or the log lacks a noted entry.
        """
        run = self._open()
        while True:
            entries = self.held()
            self._require_unmoved(entries, decision)
            entry = self._link(entries, decision)
            if self._write(run, entry):
                return entry

    def keep_files(self, folder: Path, name: str) -> None:
        """Store a verdict's files with the log, under `verdicts/<name>`."""
        self.registry.client.log_artifacts(self._open(), str(folder), f"verdicts/{name}")

    def verdict_files(self, entry: Entry, folder: Path) -> Path:
        """The folder with the verdict that an entry was made from (`verdict.json`, `verdict.html`), downloaded into `folder`."""
        with redirect_stderr(StringIO()):  # MLflow's progress bar
            return Path(self.registry.client.download_artifacts(self._open(), f"verdicts/{entry.id}", str(folder)))

    def _link(self, entries: Sequence[Entry], decision: Decision) -> Entry:
        last = entries[-1] if entries else None
        fields = {name: value for name, value in vars(decision).items() if name not in ("reasons", "approval", "id")}
        entry = Entry(
            seq=last.seq + 1 if last else 0,
            prev=last.digest if last else first_link(self.registry.name),
            id=decision.id or uuid.uuid4().hex,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            who=_short(_who()),
            reasons=tuple(_short(reason) for reason in decision.reasons),
            approval={name: _short(text) for name, text in decision.approval.items()} if decision.approval else None,
            **fields,
        )
        while entry.reasons and len(_text(entry)) > _LONGEST:
            entry = entry.model_copy(update={"reasons": entry.reasons[: len(entry.reasons) // 2]})
        return entry

    def _write(self, run: str, entry: Entry) -> bool:
        """Whether the entry now stands under its number; another writer's does where not."""
        from mlflow.exceptions import MlflowException

        try:
            self.registry.client.log_param(run, entry.key, _text(entry))
        except MlflowException:
            taken = dict(self.stored()).get(entry.key)
            if taken is None:
                raise
            return taken == _text(entry)
        return True

    def _require_unmoved(self, entries: Sequence[Entry], decision: Decision) -> None:
        champion = entries[-1].champion if entries else None
        if champion != decision.before:
            last = entries[-1] if entries else None
            said = f"{last.who} {last.decision.replace('_', ' ')} version {last.version} at {last.time}" if last else "the log is empty"
            raise PromotionError(
                f"The champion changed while version {decision.version} was judged: {said}. Nothing was done.",
                where=self.registry.uri,
                fix="look at `tailmark log show`, then run the same command again: it compares with the new champion",
            )

    def stored(self) -> list[tuple[str, str]]:
        """Key and text of every entry, as the store has them."""
        run = self._run()
        return sorted((key, value) for key, value in run.data.params.items() if _KEY.fullmatch(key)) if run else []

    @property
    def _anchor(self) -> str:
        return f"{self.registry.name} promotions"

    def _open(self) -> str:
        """Id of the log's run, which is made for the first decision, but not in the place of a log that went away."""
        run = self._run()
        if run is None:
            self.held()
            return self._create()
        return str(run.info.run_id)

    def _run(self) -> Run | None:
        """The log's run; None before the first decision."""
        experiment = self.registry.client.get_experiment_by_name(self._anchor)
        if experiment is None:
            return None
        if experiment.lifecycle_stage != "active" or RUN_TAG not in experiment.tags:
            raise PromotionError(
                f"The promotion log '{self._anchor}' was deleted or is damaged.",
                where=self.registry.uri,
                fix=f"restore it: `mlflow experiments restore --experiment-id {experiment.experiment_id}`",
            )
        run_id = str(experiment.tags[RUN_TAG])
        run = self.registry.client.get_run(run_id)
        if run.info.lifecycle_stage != "active":
            raise PromotionError(
                f"The run that holds the promotion log '{self._anchor}' was deleted.",
                where=self.registry.uri,
                fix=f"restore it: `mlflow runs restore --run-id {run_id}`",
            )
        return run

    def _create(self) -> str:
        """Make the log. An experiment's name is unique and its tags are written with it, so of two that try one run becomes the log."""
        from mlflow.exceptions import MlflowException

        registry = self.registry
        experiment = tracking.experiment_id(registry.client, registry.config, registry.layout)
        run = registry.client.create_run(experiment, run_name="promotion-log", tags={"stage": "promotion-log"}).info.run_id
        registry.client.set_terminated(run)
        try:
            registry.client.create_experiment(self._anchor, tags={RUN_TAG: run})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            registry.client.delete_run(run)
        made = self._run()
        assert made is not None
        return str(made.info.run_id)


def first_link(name: str) -> str:
    """What the first entry holds as `prev`."""
    return sha256_json({"promotion_log": name})


def _text(entry: Entry) -> str:
    return json.dumps(entry.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _short(text: str) -> str:
    """On one line, no longer than `LONGEST_SAID`: a control character would take six in JSON."""
    return "".join(character if character.isprintable() else " " for character in text)[:LONGEST_SAID]


def parse_entry(key: str, text: str) -> Entry:
    """An entry from its parameter.

    Raises:
        PromotionError: it is not as it was written.
    """
    try:
        entry = Entry.model_validate_json(text)
    except ValidationError as error:
        raise PromotionError(
            f"{key} cannot be read: {error.errors()[0]['msg']}", fix="`tailmark log verify` tells what else is wrong"
        ) from None
    if entry.key != key or _text(entry) != text:
        raise PromotionError(f"{key} is not as it was written: changed, or moved", fix="`tailmark log verify` tells what else is wrong")
    return entry


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "unknown"


def as_rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Entries with their hashes, for people and machines."""
    return [{**entry.model_dump(mode="json"), "hash": entry.digest} for entry in entries]
