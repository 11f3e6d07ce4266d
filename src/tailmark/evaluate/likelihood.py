"""How likely a model finds the reference answer: teacher forced, in nats per token of the answer and its end of turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from tailmark.chat import end_of_turn, render_list, render_prompt, token_ids
from tailmark.console import Progress
from tailmark.generate.loading import LoadedModel
from tailmark.taxonomy import MarkerValue, escape


@dataclass(frozen=True)
class Scored:
    """A reference answer under a prompt.

    Attributes:
        given: the markers in the prompt (None: no list).
        written: the markers at the head of the completion, as if the model had written them (None: no list).
    """

    messages: Sequence[Mapping[str, str]]
    answer: str
    given: Mapping[str, MarkerValue] | None = None
    written: Mapping[str, MarkerValue] | None = None


def answer_nll(loaded: LoadedModel, items: Sequence[Scored], *, batch_size: int, what: str) -> list[float]:
    """Negative log-likelihood of each answer, in nats per token; the prompt and the marker list are not counted."""
    tokenizer = loaded.tokenizer
    prompts = token_ids(tokenizer, [render_prompt(tokenizer, item.messages, item.given) for item in items])
    lists = token_ids(tokenizer, [render_list(item.written) for item in items])
    answers = token_ids(tokenizer, [escape(item.answer) + end_of_turn(tokenizer) for item in items])
    heads = [[*prompt, *listed] for prompt, listed in zip(prompts, lists, strict=True)]
    order = sorted(range(len(items)), key=lambda place: (-len(heads[place]) - len(answers[place]), place))
    result = [0.0] * len(items)
    progress = Progress(what, sum(len(heads[place]) + len(answers[place]) for place in order), "tokens")
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        for place, value in zip(batch, _batch_nll(loaded, [(heads[place], answers[place]) for place in batch]), strict=True):
            result[place] = value
        progress.advance(sum(len(heads[place]) + len(answers[place]) for place in batch))
    progress.close()
    return result


@torch.inference_mode()
def _batch_nll(loaded: LoadedModel, pairs: Sequence[tuple[list[int], list[int]]]) -> list[float]:
    """Padded on the right, where causal attention keeps padding from changing anything. Only answer positions meet the output layer."""
    width = max(len(head) + len(answer) for head, answer in pairs)
    ids = torch.tensor([[*head, *answer, *[0] * (width - len(head) - len(answer))] for head, answer in pairs], device=loaded.device)
    mask = torch.tensor(
        [[1] * (len(head) + len(answer)) + [0] * (width - len(head) - len(answer)) for head, answer in pairs], device=loaded.device
    )
    hidden = loaded.model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    output_layer = loaded.model.get_output_embeddings()
    result = []
    for row, (head, answer) in enumerate(pairs):
        # The state before a token predicts it.
        states = hidden[row, len(head) - 1 : len(head) + len(answer) - 1]
        logits = output_layer(states).float()
        target = torch.tensor(answer, device=loaded.device)
        result.append(float(torch.nn.functional.cross_entropy(logits, target)))
    return result
