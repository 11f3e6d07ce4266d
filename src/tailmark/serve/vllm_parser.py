"""For vLLM: takes the marker list off the answer (`--reasoning-parser-plugin vllm_parser.py --reasoning-parser tailmark`).

The list comes as `reasoning`, without its wrapper, and the answer as `content`, in streams too. This file stands alone, so that vLLM's
environment needs nothing of tailmark; what it does with a text is what `tailmark.taxonomy.split_completion` does.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.reasoning import ReasoningParser, ReasoningParserManager

_WORD = "MARKER_LIST"
_OPEN, _CLOSE = f"<{_WORD}>", f"</{_WORD}>"
_STRAY = re.compile(rf"{_OPEN}.*?(?:{_CLOSE}|\Z)\n?|</?{_WORD}(?!_)[^<>\n]*(?:>|\Z)", re.DOTALL)


def split(text: str, *, whole: bool = True) -> tuple[str | None, str]:
    """The list without its wrapper (None: there is none) and the answer without any list.

    Args:
        whole: nothing follows. Otherwise only what no later text can change is returned: the beginning of what the whole will give.
    """
    body = text.lstrip()
    if not body.startswith(_OPEN):
        undecided = not whole and _OPEN.startswith(body)
        return None, "" if undecided else _answer(text, whole)
    listed, closed, answer = body.removeprefix(_OPEN).partition(_CLOSE)
    if not closed:
        return (listed if whole else _settled(listed, _CLOSE)).strip(), ""
    return listed.strip(), _answer(answer.removeprefix("\n"), whole)


def _answer(text: str, whole: bool) -> str:
    return _STRAY.sub("", text if whole else _settled(text, f"<{_WORD}", f"</{_WORD}")).replace(f"{_WORD}_", _WORD)


def _settled(text: str, *wanted: str) -> str:
    """The text without what may be the beginning of one of the wanted ones at its end."""
    held = [size for item in wanted for size in range(1, len(item)) if text.endswith(item[:size])]
    return text[: len(text) - max(held, default=0)]


class MarkerListParser(ReasoningParser):
    """Splits completions of a model that was trained with markers.

    vLLM makes one for each request, and another in the engine where an answer must have a structure (JSON, say): that one says where the
    list ends, so that the structure begins after it. Here the end is never told, for what follows still has to be unescaped.
    """

    _streams = False

    def extract_reasoning(self, model_output: str, request: Any) -> tuple[str | None, str | None]:
        """The list and the answer of a whole completion."""
        del request
        return split(model_output)

    def extract_reasoning_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
    ) -> DeltaMessage | None:
        """What can be shown of list and answer beyond what was shown before; None: nothing yet."""
        del delta_text, previous_token_ids, current_token_ids, delta_token_ids
        self._streams = True
        (listed_before, answer_before), (listed, answer) = (split(text, whole=False) for text in (previous_text, current_text))
        new_listed, new_answer = (listed or "")[len(listed_before or "") :], answer[len(answer_before) :]
        if not new_listed and not new_answer:
            return None
        return DeltaMessage(reasoning=new_listed or None, content=new_answer or None)

    def get_streaming_fallback_content(self, text: str, request: Any) -> str | None:
        """What was held back of the answer, when the stream ends."""
        del request
        return split(text)[1][len(split(text, whole=False)[1]) :] or None

    def is_reasoning_end(self, input_ids: Sequence[int]) -> bool:
        """Whether the newest turn has closed its list; a list in the prompt stands in a turn before it."""
        special = set(self.model_tokenizer.all_special_ids)
        last = max((place for place, token in enumerate(input_ids) if token in special), default=-1)
        return _CLOSE in self._text(input_ids[last + 1 :])

    def is_reasoning_end_streaming(self, input_ids: Sequence[int], delta_ids: Iterable[int]) -> bool:
        """As `is_reasoning_end`, in the engine."""
        del delta_ids
        return not self._streams and self.is_reasoning_end(input_ids)

    def extract_content_ids(self, input_ids: list[int]) -> list[int]:
        """The tokens after the list."""
        return input_ids[self.count_reasoning_tokens(input_ids) :]

    def count_reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        """How many tokens the list has; 0 where there is none."""
        if not self._text(token_ids).lstrip().startswith(_OPEN):
            return 0
        return bisect_left(range(len(token_ids)), True, key=lambda size: _CLOSE in self._text(token_ids[:size]))

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.model_tokenizer.decode(list(ids)))


ReasoningParserManager.register_module("tailmark", module=MarkerListParser)
