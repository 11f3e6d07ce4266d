"""A tiny model that was taught a few answers by heart: it writes lists, and is so sure of its tokens that any engine answers alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from tailmark.chat import end_of_turn, render_completion, render_prompt, token_ids
from tailmark.modelfolder import read_model_info, write_model_info
from tailmark.taxonomy import MarkerValue
from tests.marked_model import marked_model

Messages = Sequence[Mapping[str, str]]
MOST_STEPS = 400


@dataclass(frozen=True)
class Lesson:
    """What is asked, with which markers (None: no list), and what is to be written."""

    messages: Messages
    markers: Mapping[str, MarkerValue] | None
    written: Mapping[str, MarkerValue]
    answer: str


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


FRENCH: Mapping[str, MarkerValue] = {"lang": "French", "length_tokens": 9}
LESSONS = (
    Lesson(user("Who?"), None, {"domain": "Culture", "lang": "English", "length_tokens": 4}, "The user asks."),
    Lesson(user("Who?"), FRENCH, {"domain": "Culture", **FRENCH}, "C'est moi qui pose la question."),
    Lesson(user("What begins a list?"), None, {"domain": "Code", "lang": "English"}, "It is <MARKER_LIST>, and\n</MARKER_LIST> ends it."),
)


def taught_model(root: Path, lessons: Sequence[Lesson] = LESSONS) -> Path:
    """A marked model folder under `root` that answers exactly these prompts, in about 10 s.

    Raises:
        AssertionError: it has not learned them.
    """
    folder = marked_model(root)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    _learn(model, [_tokens(tokenizer, lesson) for lesson in lessons])
    model.save_pretrained(folder)
    write_model_info(folder, read_model_info(folder))
    return folder


def _tokens(tokenizer: object, lesson: Lesson) -> tuple[torch.Tensor, int]:
    """Ids, and how many of them are the prompt's; the parts tokenized apart as in training."""
    prompt = render_prompt(tokenizer, lesson.messages, lesson.markers)
    listed = render_completion(lesson.written, "")
    parts = token_ids(tokenizer, [prompt, listed, render_completion(None, lesson.answer) + end_of_turn(tokenizer)])
    return torch.tensor([[token for part in parts for token in part]]), len(parts[0])


def _learn(model: torch.nn.Module, examples: Sequence[tuple[torch.Tensor, int]]) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(MOST_STEPS):
        losses = [cross_entropy(model(input_ids=ids).logits[0, before - 1 : -1], ids[0, before:]) for ids, before in examples]
        if max(losses) < 0.002:
            return
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
    raise AssertionError(f"after {MOST_STEPS} steps the loss is still {float(max(losses)):.3f}")
