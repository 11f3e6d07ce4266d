"""Why a row of a source cannot be used."""

from __future__ import annotations

REASONS = {
    "bad_messages": "the field of the conversation does not hold a list of turns with a role and text",
    "corrupt_csv": "a quotation mark stands where none can, or is never closed",
    "corrupt_encoding": "bytes that are not UTF-8, or half of a surrogate pair",
    "corrupt_json": "the line is not JSON",
    "empty_completion": "the answer holds no visible character",
    "empty_prompt": "there is no text of the user before the answer",
    "empty_turn": "an earlier turn of the conversation holds no visible character",
    "filtered": "`where` or `unless` leaves the row out",
    "missing_completion": "there is no answer: no value, or the last turn is not the assistant's",
    "no_assistant_turn": "the conversation has no turn of the assistant",
    "no_variant": "none of the `variants` fits the row",
    "not_an_object": "the JSON value is no object",
    "unanswered_turn": "the conversation ends with a turn that nobody answered (only with `turns: every`)",
    "unknown_role": "a turn is neither the system's, the user's nor the assistant's",
    "unsupported_content": "a turn holds something else than text, e.g. an image",
    "wrong_columns": "the line of CSV has more or fewer cells than the head",
    "wrong_type": "a field holds something else than text (or, for a marker or in a template, a number)",
}
"""Reason code to what it means, for the quarantine and docs/sources.md."""


class Unusable(Exception):
    """A row cannot become an example."""

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS, reason
        super().__init__(detail)
        self.reason, self.detail = reason, detail
