"""A person's answer to a verdict: the flow pauses until it comes, in Prefect's UI or through its API."""

from __future__ import annotations

from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import Field

from tailmark.register.log import LONGEST_SAID
from tailmark.register.promote import Approval

_POLL_S = 3


class Answer(RunInput):
    """What the person fills in."""

    approve: bool = Field(description="make this version the champion")
    by: str = Field(min_length=1, max_length=LONGEST_SAID, pattern=r"\S", description="who decides")
    reason: str = Field(default="", max_length=LONGEST_SAID, description="why, for the promotion log")


def ask(verdict: str, hours: float) -> Approval:
    """Show a verdict (Markdown) beside the form and wait for the answer.

    Raises:
        FlowPauseTimeout: nobody answered within `hours`.
    """
    form = Answer.with_initial_data(description=verdict)
    answer = pause_flow_run(wait_for_input=form, timeout=int(hours * 3600), poll_interval=_POLL_S)
    return Approval(answer.approve, answer.by, answer.reason)
