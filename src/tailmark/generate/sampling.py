"""Choosing tokens: the most likely one, or one drawn so that neither the batch nor what else is in it changes the draw."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from tailmark.generate.request import Sampling

_MOST_LIKELY = 1024
"""Tokens that are looked at first when those with a given probability are sought."""


def uniform(sampling: Sampling, prompt: str, position: int) -> float:
    """A number in [0, 1) that depends on the request's seed, its prompt and the token's position alone."""
    return random.Random(f"{sampling.seed}\0{position}\0{prompt}").random()


def choose(logits: torch.Tensor, samplings: Sequence[Sampling], points: Sequence[float]) -> list[int]:
    """One token per row.

    Args:
        logits: (rows, vocabulary).
        samplings: per row.
        points: per row a number in [0, 1): where on the cumulative distribution the token is taken.
    """
    chosen: list[int] = logits.argmax(-1).tolist()
    drawn = [place for place, sampling in enumerate(samplings) if sampling.temperature > 0]
    if drawn:
        for place, token in zip(drawn, _draw(logits[drawn], [(samplings[place], points[place]) for place in drawn]), strict=True):
            chosen[place] = token
    return chosen


def _draw(logits: torch.Tensor, rows: Sequence[tuple[Sampling, float]]) -> list[int]:
    """Tokens drawn by inverting each row's cumulative distribution at its point."""
    settings = torch.tensor([[item.temperature, item.top_p, point] for item, point in rows], dtype=torch.float64, device=logits.device)
    temperature, top_p, point = settings.split(1, dim=-1)
    upto = _nucleus((logits.double() / temperature).softmax(-1), top_p).cumsum(-1)
    places = torch.searchsorted(upto, point * upto[:, -1:], right=True).clamp(max=logits.shape[-1] - 1)
    tokens: list[int] = places[:, 0].tolist()
    return tokens


def _nucleus(likely: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Probabilities (rows, vocabulary) of the most likely tokens that together have at least `top_p`, and of those as likely as the last
    of them; 0 for the others (Holtzman et al., 2020). Sorting a whole vocabulary takes longer than a small model's forward pass.
    """
    whole = top_p >= 1
    if bool(whole.all()):
        return likely
    count, vocabulary = _MOST_LIKELY, likely.shape[-1]
    while True:
        highest = likely.topk(min(count, vocabulary)).values
        before = highest.cumsum(-1) - highest
        if count >= vocabulary or bool((whole | (before[:, -1:] >= top_p)).all()):
            break
        count *= 8
    least = highest.masked_fill(before >= top_p, torch.inf).amin(-1, keepdim=True)
    return likely.where(whole | (likely >= least), 0)
