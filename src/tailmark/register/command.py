"""The commands around the registry: promote, rollback, lineage, and the promotion log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tailmark.config import Config
from tailmark.console import say
from tailmark.errors import PromotionError
from tailmark.layout import Layout
from tailmark.register.audit import check
from tailmark.register.lineage import backward, forward
from tailmark.register.log import Entry, PromotionLog, as_rows
from tailmark.register.promote import Approval, Proposal, decide, judge, rollback, settle, write_verdict
from tailmark.register.registry import Registry, open_registry


def promote(config: Config, layout: Layout, reference: str | None, *, approved_by: str | None, dry_run: bool, as_json: bool) -> bool:
    """Judge a version and, unless this is a dry run, promote or refuse it; returns whether it passed."""
    with open_registry(config, layout) as registry:
        proposal = judge(registry, reference)
        page = keep_page(layout, proposal)
        if as_json:
            print(json.dumps(proposal.verdict.as_dict(), indent=2, ensure_ascii=False))
        else:
            show_verdict(proposal, page)
        if dry_run:
            return proposal.verdict.passed
        approval = Approval(True, approved_by, "on the command line") if approved_by and proposal.verdict.passed else None
        entry = decide(registry, proposal, approval)
        if not as_json:
            show_entry(registry, entry)
        return entry.decision == "promoted"


def keep_page(layout: Layout, proposal: Proposal) -> Path:
    """Write the verdict where a person finds it; returns the page."""
    folder = layout.state / "promotion" / f"version-{proposal.version}"
    write_verdict(proposal.verdict, folder)
    return folder / "verdict.html"


def show_verdict(proposal: Proposal, page: Path) -> None:
    """Print the checks and where the page is."""
    against = f"the champion, version {proposal.champion}" if proposal.champion else "no champion yet"
    say(f"promote: {proposal.verdict.name} version {proposal.version} against {against}")
    for item in proposal.verdict.checks:
        say(f"  {'holds' if item.passed else 'FAILS'}  {item.title}: {item.said}")
        if not item.passed and item.fix:
            say(f"         to do: {item.fix}")
    say(f"  page: {page}")


def show_entry(registry: Registry, entry: Entry) -> None:
    """Print what was decided."""
    alias = registry.config.gate.champion
    verb = {"promoted": "is now", "rolled_back": "is again", "refused": "was refused;"}[entry.decision]
    who = f"version {entry.version} {verb}"
    kept = f"'{alias}' stays with version {entry.champion}" if entry.champion else f"there is no '{alias}' yet"
    say(f"promote: {who} '{alias}'" if entry.decision != "refused" else f"promote: {who} {kept}")
    say(f"  log entry {entry.mark}")


def roll_back(config: Config, layout: Layout, to: str | None, reason: str) -> None:
    """Give the alias back to an earlier champion."""
    with open_registry(config, layout) as registry:
        show_entry(registry, rollback(registry, to, reason))


def lineage(config: Config, layout: Layout, reference: str | None, data: str | None, *, as_json: bool) -> None:
    """Print where a version came from, or which versions came from some data."""
    with open_registry(config, layout) as registry:
        if data is not None:
            made = forward(registry, data)
            if as_json:
                print(json.dumps([vars(item) for item in made], indent=2))
                return
            for item in made:
                named = f" ({', '.join(item.aliases)})" if item.aliases else ""
                say(f"version {item.version}{named}: {', '.join(item.outputs)}, commit {item.commit or 'not known'}")
            return
        found = backward(registry, reference or f"@{config.register_.alias}")
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    say(f"{found['name']} version {found['version']} ({', '.join(found['aliases']) or 'no alias'})")
    dirty = ", with changes that no commit holds" if found["dirty"] else ""
    say(f"  commit    {found['commit'] or 'not known'}{dirty}")
    say(f"  dvc.lock  {found['lock'] or 'not known'} (sha256)")
    say(f"  run       {found['run']}")
    for path, md5 in found["outputs"].items():
        say(f"  {path:<28} {md5}")
    for row in found["decisions"]:
        say(f"  decision {row['seq']}: {row['decision'].replace('_', ' ')}, {row['time']}, {row['who']}")
    say("  params: `tailmark lineage --json`, or the card")


def show_log(config: Config, layout: Layout, *, as_json: bool) -> None:
    """Print every decision."""
    with open_registry(config, layout) as registry:
        entries = PromotionLog(registry).entries()
    if as_json:
        print(json.dumps(as_rows(entries), indent=2, ensure_ascii=False))
    elif not entries:
        say("Nothing was decided yet.")
    else:
        _print(entries)


def _print(entries: Sequence[Entry]) -> None:
    table = Table("entry", "time", "decision", "version", "champion", "who", "reasons", box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.columns[1].no_wrap = True
    for entry in entries:
        who = f"{entry.who}, {entry.approval['by']}" if entry.approval else entry.who
        reasons = "; ".join(entry.reasons) if entry.decision != "promoted" else f"{len(entry.reasons)} checks hold"
        said = entry.decision.replace("_", " ")
        table.add_row(str(entry.seq), entry.time, said, entry.version, entry.champion or "none", who, reasons)
    Console(highlight=False).print(table)
    say(f"head: {entries[-1].mark}")


def verify_log(config: Config, layout: Layout, head: str | None) -> None:
    """Check the chain, the notes outside it, and the alias.

    Raises:
        PromotionError: anything differs.
    """
    with open_registry(config, layout) as registry:
        log = PromotionLog(registry)
        problems = check(log, head)
        if problems:
            raise PromotionError(
                f"The promotion log of {registry.name} does not hold: {'; '.join(problems)}.",
                where=registry.uri,
                fix="find out who can write to the store's database; entries noted elsewhere (`--head`) tell up to where it can be trusted",
            )
        entries = log.entries()
        alias = registry.aliased(config.gate.champion)
        decided = entries[-1].champion if entries else None
        if (str(alias.version) if alias else None) != decided:
            raise PromotionError(
                f"The log holds, but the alias '{config.gate.champion}' is not where its last entry says (version {decided or 'none'}).",
                where=f"models:/{registry.name}@{config.gate.champion}",
                fix="`tailmark log settle` moves it there",
            )
    say(f"The log holds: {len(entries)} entries, champion {decided or 'none'}." + (f" head: {entries[-1].mark}" if entries else ""))


def settle_log(config: Config, layout: Layout) -> None:
    """Move the alias to where the log's last entry says."""
    with open_registry(config, layout) as registry:
        last = settle(registry)
        say(
            f"'{config.gate.champion}' is version {last.champion or 'none'}, as entry {last.seq} says."
            if last
            else "No entry: the alias was removed."
        )
