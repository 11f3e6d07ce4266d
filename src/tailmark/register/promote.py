"""Promotion and rollback: judge, decide, write the decision into the log, move the alias to where the log says."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tailmark.errors import ModelError, PromotionError
from tailmark.files import sha256_file, write_json, write_text
from tailmark.register.fetch import Fetched, fetch
from tailmark.register.gate import Check, Side, Verdict, judge_versions
from tailmark.register.log import HEAD_TAG, NOTE, Decision, Entry, PromotionLog
from tailmark.register.manifest import noted_manifest
from tailmark.register.page import verdict_page
from tailmark.register.registry import Registry

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Approval:
    """A person's answer to a verdict; `by` is what they say of themselves.

    Raises:
        PromotionError: it does not say who.
    """

    approved: bool
    by: str
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.by.strip():
            raise PromotionError("An answer to a verdict needs a name.", fix="say who decides: --approved-by NAME, or `by` in the form")


@dataclass(frozen=True)
class Proposal:
    """A verdict, and the champion it holds against.

    Attributes:
        version: the challenger's number; `champion`: the champion's when it was judged.
        manifest: sha256 of the challenger's manifest, as the registry notes it; empty where it notes none.
    """

    version: str
    champion: str | None
    manifest: str
    verdict: Verdict


def judge(registry: Registry, reference: str | None = None) -> Proposal:
    """Hold a version (default: `register.alias`) against the champion and the baseline. Changes nothing.

    Raises:
        TrackingError: there is no such version.
        PromotionError: it is the champion already, or alias and log disagree.
    """
    config = registry.config
    version = registry.resolve(reference or f"@{config.register_.alias}")
    if version.name != registry.name:
        raise PromotionError(
            f"'{reference}' is a version of another model than `register.model_name` ({registry.name}).",
            where=registry.uri,
            fix="set `register.model_name` to that model, or name one of its versions",
        )
    champion = _champion(registry)
    number = str(version.version)
    if champion is not None and number == str(champion.version):
        raise PromotionError(
            f"Version {number} is the champion already.", where=f"models:/{registry.name}/{number}", fix="name another version to promote"
        )
    verdict = _verdict(registry, version, champion)
    before = str(champion.version) if champion else None
    return Proposal(number, before, noted_manifest(version.tags) or "", verdict)


def _verdict(registry: Registry, version: ModelVersion, champion: ModelVersion | None) -> Verdict:
    """The gate's verdict; files that are not what was registered are a reason to refuse, not an accident."""
    fetched: list[Fetched] = []
    for role, item in (("challenger", version), ("champion", champion)):
        if item is None:
            continue
        try:
            fetched.append(fetch(registry, item))
        except ModelError as error:
            fix = error.fix or ""
            check = Check("Files", False, f"the {role}'s cannot be trusted: {error.what}", fix)
            sides = [_side(item) if item else None for item in (version, champion)]
            assert sides[0] is not None
            return Verdict(registry.name, sides[0], sides[1], (check,), registry.config.evaluate.confidence)
    return judge_versions(registry.config, fetched[0], fetched[1] if len(fetched) > 1 else None)


def _side(version: ModelVersion) -> Side:
    """A version as its tags tell, where its files cannot be trusted."""
    tags = version.tags
    return Side(str(version.version), noted_manifest(tags) or "", tags.get("model_digest", ""), tags.get("commit"), tags.get("data"))


def decide(registry: Registry, proposal: Proposal, approval: Approval | None = None) -> Entry:
    """Promote or refuse as the verdict and, where one is asked for, the person say; the decision is in the log before the alias moves.

    Raises:
        PromotionError: approval is asked for and none is given; the champion changed since the proposal was made.
    """
    verdict = proposal.verdict
    if verdict.passed and registry.config.gate.approval and approval is None:
        raise PromotionError(
            f"Version {proposal.version} passed the gate and waits for a person (`gate.approval`).",
            where=f"models:/{registry.name}/{proposal.version}",
            fix="add --approved-by NAME, or run `python -m flows.promote`, which asks in Prefect",
        )
    _require_same_files(registry, proposal)
    agreed = verdict.passed and (approval is None or approval.approved)
    reasons = (
        verdict.reasons if approval is None or approval.approved else (f"{approval.by} refused: {approval.reason or 'no reason given'}",)
    )
    log, name = PromotionLog(registry), uuid.uuid4().hex
    with TemporaryDirectory(prefix="tailmark-") as folder:
        write_verdict(verdict, Path(folder), approval)
        digest = sha256_file(Path(folder) / "verdict.json")
        log.keep_files(Path(folder), name)
    entry = log.append(
        Decision(
            "promoted" if agreed else "refused",
            version=proposal.version,
            before=proposal.champion,
            champion=proposal.version if agreed else proposal.champion,
            manifest=proposal.manifest,
            reasons=reasons,
            verdict=digest,
            approval={"by": approval.by, "reason": approval.reason} if approval else None,
            id=name,
        )
    )
    settle(registry)
    return entry


def _require_same_files(registry: Registry, proposal: Proposal) -> None:
    """A person may answer hours after the files were checked."""
    now = noted_manifest(registry.resolve(proposal.version).tags) or ""
    if now != proposal.manifest:
        raise PromotionError(
            f"Version {proposal.version} was changed after it was judged.",
            where=f"models:/{registry.name}/{proposal.version}",
            fix="see who can write to the registry; nothing was promoted",
        )


def write_verdict(verdict: Verdict, folder: Path, approval: Approval | None = None) -> None:
    """Write `verdict.html` and `verdict.json`, which holds the page's sha256, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "verdict.html"
    write_text(page, verdict_page(verdict))
    more = {"approval": vars(approval) if approval else None, "page": sha256_file(page)}
    write_json(folder / "verdict.json", verdict.as_dict() | more)


def rollback(registry: Registry, to: str | None = None, reason: str = "") -> Entry:
    """Give the champion's alias back to the champion before it, or to an earlier one.

    Raises:
        PromotionError: there is no earlier champion, or that version never was one.
        ModelError: its files are not what was registered.
    """
    log = PromotionLog(registry)
    earlier = former_champions(log.held())
    champion = _champion(registry)
    current = str(champion.version) if champion else None
    chosen = to or (earlier[-1] if earlier else None)
    if chosen is None or chosen not in earlier:
        known = f"use one of {', '.join(dict.fromkeys(earlier))}" if earlier else "promote another version instead"
        raise PromotionError(
            f"Version {chosen} was not a champion before this one." if chosen else "There is no earlier champion to go back to.",
            where=f"models:/{registry.name}@{registry.config.gate.champion}",
            fix=known,
        )
    fetched = fetch(registry, registry.resolve(chosen))
    said = (reason,) if reason else ()
    entry = log.append(Decision("rolled_back", chosen, current, chosen, fetched.manifest_digest, said))
    settle(registry)
    return entry


def former_champions(entries: Sequence[Entry]) -> list[str]:
    """The champions before the present one, the latest last. A rollback takes back what came after its target."""
    line: list[str] = []
    for entry in entries:
        if entry.decision == "promoted":
            line.append(entry.version)
        elif entry.decision == "rolled_back" and entry.version in line:
            place = len(line) - 1 - line[::-1].index(entry.version)
            line = line[: place + 1]
    return line[:-1]


def _champion(registry: Registry) -> ModelVersion | None:
    """The version that the champion's alias names, which must be the log's.

    Raises:
        PromotionError: they differ, or the log lacks an entry that is noted elsewhere.
    """
    entries = PromotionLog(registry).held()
    decided = entries[-1].champion if entries else None
    found = registry.aliased(registry.config.gate.champion)
    actual = str(found.version) if found else None
    if actual != decided:
        raise PromotionError(
            f"The alias '{registry.config.gate.champion}' names {_named(actual)}, the promotion log {_named(decided)}.",
            where=f"models:/{registry.name}@{registry.config.gate.champion}",
            fix="a decision was interrupted, or the alias was moved by hand: `tailmark log settle` moves it to where the log says",
        )
    return found


def _named(version: str | None) -> str:
    return f"version {version}" if version else "no version"


def settle(registry: Registry) -> Entry | None:
    """Move the alias to where the log's last entry says, and note that entry outside the log. Returns it; without entries the
    alias is removed.

    Whoever moves the alias looks at the log afterwards, and again until nothing was appended meanwhile: so the last one to move it moves it
    to where the last entry says, however many write at once.

    Raises:
        TrackingError: nothing was registered yet.
        PromotionError: the log lacks an entry that is noted elsewhere.
    """
    registry.require_registered()
    log, client, alias = PromotionLog(registry), registry.client, registry.config.gate.champion
    while entries := log.held():
        last = entries[-1]
        if last.champion is None:
            client.delete_registered_model_alias(registry.name, alias)
        else:
            client.set_registered_model_alias(registry.name, alias, last.champion)
        client.set_model_version_tag(registry.name, last.version, f"{NOTE}{last.seq:06d}", last.digest)
        client.set_registered_model_tag(registry.name, HEAD_TAG, last.mark)
        if log.held()[-1].seq == last.seq:
            return last
    client.delete_registered_model_alias(registry.name, alias)
    return None
