"""What flows tell Prefect besides their states, as events that automations act on. Whom to tell, and how, is no concern of a flow."""

from __future__ import annotations

from prefect.events import emit_event
from prefect.runtime import flow_run

from tailmark.register.gate import Verdict
from tailmark.register.log import Entry

VERDICT = "tailmark.gate.verdict"
DECIDED = "tailmark.promotion.decided"
QUESTION = "tailmark.approval.needed"
DATA_CHANGED = "tailmark.data.changed"
DATA_ARRIVED = "tailmark.data.arrived"
"""Sent from outside, by whatever brings new data: an automation starts the flow `refresh`."""


def verdict(found: Verdict) -> None:
    """The gate has judged a version."""
    said = "passes" if found.passed else "does not pass"
    failed = "; ".join(f"{check.title}: {check.said}" for check in found.checks if not check.passed)
    _emit(
        VERDICT, f"version/{found.challenger.version}", f"{found.name} version {found.challenger.version} {said} the gate. {failed}".strip()
    )


def decided(entry: Entry) -> None:
    """A promotion, refusal or rollback stands in the log."""
    reasons = f" ({'; '.join(entry.reasons)})" if entry.reasons else ""
    _emit(
        DECIDED,
        f"version/{entry.version}",
        f"Version {entry.version}: {entry.decision.replace('_', ' ')}{reasons}; champion: {entry.champion}.",
    )


def question(text: str) -> None:
    """A flow waits for a person's answer."""
    _emit(QUESTION, "question", text)


def data_changed(text: str) -> None:
    """The data differ from those of the last training by more than was allowed."""
    _emit(DATA_CHANGED, "data", text)


def data_arrived(source: str) -> None:
    """There are new data."""
    _emit(DATA_ARRIVED, "data", f"New data: {source}.")


def _emit(name: str, resource: str, text: str) -> None:
    """Each event names its flow run, so that a notification can link to it."""
    run = flow_run.get_id()
    related = [{"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"}] if run else []
    emit_event(name, resource={"prefect.resource.id": f"tailmark.{resource}"}, related=related, payload={"text": text})
