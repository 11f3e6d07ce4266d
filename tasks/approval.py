"""A person's answer: the flow pauses until it comes, in Prefect's UI or through its API."""

from __future__ import annotations

from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import Field

from tailmark.register.log import LONGEST_SAID
from tailmark.register.promote import Approval
from tasks import announce

_POLL_S = 3


class Answer(RunInput):
    """What the person fills in about a version."""

    approve: bool = Field(description="make this version the champion")
    by: str = Field(min_length=1, max_length=LONGEST_SAID, pattern=r"\S", description="who decides")
    reason: str = Field(default="", max_length=LONGEST_SAID, description="why, for the promotion log")


class TrainAnswer(RunInput):
    """What the person fills in about new data."""

    train: bool = Field(description="train on these data now")
    by: str = Field(min_length=1, max_length=LONGEST_SAID, pattern=r"\S", description="who decides")


def ask(verdict: str, hours: float, title: str) -> Approval:
    """Show a verdict (Markdown) beside the form and wait for the answer; `title` goes to whoever is notified.

    Raises:
        FlowPauseTimeout: nobody answered within `hours`.
    """
    announce.question(title)
    form = Answer.with_initial_data(description=verdict)
    answer = pause_flow_run(wait_for_input=form, timeout=int(hours * 3600), poll_interval=_POLL_S)
    return Approval(answer.approve, answer.by, answer.reason)


def ask_to_train(found: str, hours: float) -> TrainAnswer:
    """Show how the data changed (Markdown) beside the form and wait for the answer.

    Raises:
        FlowPauseTimeout: nobody answered within `hours`.
    """
    announce.question("New data: train on them?")
    form = TrainAnswer.with_initial_data(description=found)
    return pause_flow_run(wait_for_input=form, timeout=int(hours * 3600), poll_interval=_POLL_S)
