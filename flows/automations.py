"""What the Prefect server does by itself: notify, mark runs whose process is gone as crashed, start `refresh` when data arrive.

    python -m flows.automations install --block slack-webhook/NAME   # write the automations into the server; again: replace them
    python -m flows.automations block NAME                           # keep the Apprise address in TAILMARK_NOTIFY_URL in a block
    python -m flows.automations announce                             # say that data have arrived

The address and its secret stand in the block alone, which Prefect stores encrypted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from prefect.automations import Automation
from prefect.blocks.notifications import SlackWebhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment, SendNotification
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from pydantic import SecretStr

from flows.guard import guarded
from tailmark.console import say
from tailmark.errors import ConfigError
from tasks import announce

FLOWS = ("pipeline", "sweep", "refresh", "promote", "rollback")
ADDRESS = "TAILMARK_NOTIFY_URL"

_ENDED = ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut")
_PREFIX = "tailmark: "
_GONE = "No sign of life: its process, or the machine, is gone."
_ANY_RUN: dict[str, str | list[str]] = {"prefect.resource.id": "prefect.flow-run.*"}
_OURS: dict[str, str | list[str]] = {"prefect.resource.role": "flow", "prefect.resource.name": list(FLOWS)}


def install(block: str | None, refresh: str | None, silent_s: float) -> list[str]:
    """Write the automations into the server; returns their names. Those of an earlier call are replaced.

    Args:
        block: a notification block, as `type-slug/name`; None: nobody is notified.
        refresh: the deployment that new data start, as `refresh/name`; None: none.
        silent_s: a run that sends no sign of life for so long counts as crashed.

    Raises:
        ConfigError: there is no such block or deployment, or no server is configured.
    """
    _need_server()
    with get_client(sync_client=True) as client:
        wanted = [_crashed(silent_s)]
        wanted += _notifications(_block(client, block)) if block else []
        wanted += [_on_data(_deployment(client, refresh))] if refresh else []
        for old in client.read_automations():
            if old.name.startswith(_PREFIX):
                client.delete_automation(old.id)
    for automation in wanted:
        automation.create()
    return [automation.name for automation in wanted]


def _notifications(block: UUID) -> list[Automation]:
    run = "{{ flow.name }}/{{ flow_run.name }}"
    failed = EventTrigger(
        expect={f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "TimedOut")},
        match=_ANY_RUN, match_related=_OURS, for_each={"prefect.resource.id"}, posture=Posture.Reactive, threshold=1,
    )  # fmt: skip
    told = "{{ flow_run.state.name }}: {{ flow_run.state.message }}\n{{ flow_run|ui_url }}"
    found = [_notify("a run failed", failed, block, f"{run} failed", told)]
    for title, event in {
        "the gate has judged": announce.VERDICT,
        "a decision was made": announce.DECIDED,
        "a person's answer is needed": announce.QUESTION,
        "the data have changed": announce.DATA_CHANGED,
    }.items():
        trigger = EventTrigger(expect={event}, for_each={"prefect.resource.id"}, posture=Posture.Reactive, threshold=1)
        found.append(_notify(title, trigger, block, f"tailmark: {title}", "{{ event.payload.text }}"))
    return found


def _notify(title: str, trigger: EventTrigger, block: UUID, subject: str, body: str) -> Automation:
    action = SendNotification(block_document_id=block, subject=subject, body=body)
    return Automation(name=_PREFIX + title, trigger=trigger, actions=[action], description="Notifies through a block.")


def _crashed(silent_s: float) -> Automation:
    """Runs send a sign of life every `PREFECT_FLOWS_HEARTBEAT_FREQUENCY` seconds, where the worker's environment sets that."""
    life = "prefect.flow-run.heartbeat"
    trigger = EventTrigger(
        after={life}, expect={life, *(f"prefect.flow-run.{state}" for state in _ENDED)}, match=_ANY_RUN,
        for_each={"prefect.resource.id"}, posture=Posture.Proactive, threshold=1, within=timedelta(seconds=silent_s),
    )  # fmt: skip
    action = ChangeFlowRunState(state=StateType.CRASHED, name=None, message=_GONE, force=True)
    return Automation(name=f"{_PREFIX}mark dead runs as crashed", trigger=trigger, actions=[action], description="No sign of life.")


def _on_data(deployment: UUID) -> Automation:
    trigger = EventTrigger(expect={announce.DATA_ARRIVED}, posture=Posture.Reactive, threshold=1)
    action = RunDeployment(source="selected", deployment_id=deployment, parameters={}, job_variables={})
    return Automation(name=f"{_PREFIX}refresh when data arrive", trigger=trigger, actions=[action], description="Starts the flow refresh.")


def _block(client: SyncPrefectClient, slug: str) -> UUID:
    kind, _, name = slug.partition("/")
    try:
        return client.read_block_document_by_name(name, kind, include_secrets=False).id
    except ObjectNotFound:
        fix = f"make it in Prefect's UI (Blocks), or with {ADDRESS}=... python -m flows.automations block {name or 'NAME'}"
        raise ConfigError(f"There is no block '{slug}'.", where=str(PREFECT_API_URL.value()), fix=fix) from None


def _deployment(client: SyncPrefectClient, name: str) -> UUID:
    try:
        return client.read_deployment_by_name(name).id
    except ObjectNotFound:
        raise ConfigError(
            f"There is no deployment '{name}'.", where=str(PREFECT_API_URL.value()), fix="`prefect deployment ls` lists them"
        ) from None


def make_block(name: str) -> str:
    """Keep the Apprise address of the environment in a block of this name; returns its slug. Prefect stores it encrypted.

    Raises:
        ConfigError: the variable is not set, or no server is configured.
    """
    _need_server()
    address = os.environ.get(ADDRESS)
    if not address:
        raise ConfigError(
            f"{ADDRESS} is not set.", where="the environment", fix="set it to an Apprise address, e.g. slack://... or json://host/path"
        )
    SlackWebhook(url=SecretStr(address)).save(name, overwrite=True)
    return f"slack-webhook/{name}"


def _need_server() -> None:
    if not PREFECT_API_URL.value():
        raise ConfigError(
            "No Prefect server is configured.", where="PREFECT_API_URL", fix="set it to the server's address, e.g. http://host:4200/api"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the commands; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.automations", description="What the Prefect server does by itself.")
    commands = parser.add_subparsers(dest="command", required=True)
    installing = commands.add_parser("install", help="write the automations into the server")
    installing.add_argument("--block", metavar="TYPE/NAME", help="notify through this block")
    installing.add_argument("--refresh", metavar="FLOW/NAME", help="the deployment that new data start, e.g. refresh/nightly")
    installing.add_argument(
        "--silent", type=float, default=120.0, metavar="S", help="seconds without a sign of life until a run is crashed"
    )
    blocking = commands.add_parser("block", help=f"keep the Apprise address in {ADDRESS} in a block")
    blocking.add_argument("name")
    announcing = commands.add_parser("announce", help="say that data have arrived")
    announcing.add_argument("source", nargs="?", default="not named")
    return guarded(lambda: _do(parser.parse_args(arguments)))


def _do(given: argparse.Namespace) -> None:
    if given.command == "install":
        for name in install(given.block, given.refresh, given.silent):
            say(name)
    elif given.command == "block":
        say(f"kept in block {make_block(given.name)}")
    else:
        _need_server()
        announce.data_arrived(given.source)


if __name__ == "__main__":
    sys.exit(main())
