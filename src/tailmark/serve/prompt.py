"""From a conversation to the tokens of its prompt, so that no text in it can act as a control token."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from tailmark.chat import control_tokens, render_prompt, token_ids
from tailmark.errors import DataError
from tailmark.taxonomy import MarkerValue

_HARMLESS = "x"


class Prompts:
    """Makes the prompts of one model."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # A setting of the tokenizer itself, not of one call: shared, another thread's conversation would be read in this way too.
        self._verbatim = copy.deepcopy(tokenizer)
        self._verbatim("", split_special_tokens=True)
        self._control = frozenset(tokenizer.convert_tokens_to_ids(list(control_tokens(tokenizer))))

    def of_conversation(self, messages: Sequence[Mapping[str, str]], markers: Mapping[str, MarkerValue] | None) -> tuple[str, list[int]]:
        """The rendered prompt and its tokens.

        The template keeps control tokens out of messages. One that does not (a model prepared before templates did, a family whose
        template rewrites texts) is found out here: the prompt then has other control tokens than the same conversation with harmless texts.

        Raises:
            DataError: the template refuses the conversation, or a text in it would act as a control token.
        """
        try:
            text = render_prompt(self._tokenizer, messages, markers)
            plain = render_prompt(self._tokenizer, [{**message, "content": _HARMLESS} for message in messages], markers)
        except TemplateError as error:
            raise DataError(f"The model's chat template refuses the conversation: {error}.") from None
        tokens, harmless = token_ids(self._tokenizer, [text, plain])
        if self._controls(tokens) != self._controls(harmless):
            raise DataError("A message contains the text of a control token of this model.", fix="write it in another way")
        return text, tokens

    def of_text(self, text: str) -> tuple[str, list[int]]:
        """A text to be continued as it stands; what looks like a control token in it is text."""
        return text, list(self._verbatim(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def _controls(self, tokens: Sequence[int]) -> list[int]:
        return [token for token in tokens if token in self._control]
