"""Draws follow the model's distribution, and depend on the request alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare

from tailmark.generate.decode import generate
from tailmark.generate.loading import load_model
from tailmark.generate.request import Request, Sampling
from tailmark.generate.sampling import _nucleus, choose, uniform
from tests.marked_model import marked_model

LOGITS = torch.tensor([0.3, 2.0, -1.0, 1.0, 0.0])


def draws(sampling: Sampling, count: int = 4000) -> torch.Tensor:
    points = [uniform(Sampling(1.0, 1.0, seed), "prompt", 3) for seed in range(count)]
    return torch.bincount(torch.tensor(choose(LOGITS.expand(count, -1), [sampling] * count, points)), minlength=len(LOGITS))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_frequencies_are_the_probabilities(temperature: float) -> None:
    expected = (LOGITS / temperature).softmax(-1).double()
    assert chisquare(draws(Sampling(temperature)).numpy(), (expected / expected.sum() * 4000).numpy()).pvalue > 0.001


def test_top_p_keeps_the_fewest_tokens_with_that_probability() -> None:
    likely = LOGITS.softmax(-1)
    enough = float(likely[1] + likely[3]) - 1e-4
    counts = draws(Sampling(1.0, enough))
    assert set(counts.nonzero()[:, 0].tolist()) == {1, 3}
    kept = likely[[1, 3]].double() / likely[[1, 3]].double().sum()
    assert chisquare(counts[[1, 3]].numpy(), (kept / kept.sum() * 4000).numpy()).pvalue > 0.001
    assert set(draws(Sampling(1.0, enough + 2e-4)).nonzero()[:, 0].tolist()) == {0, 1, 3}


@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.9999])
def test_a_large_vocabulary_is_not_sorted_whole(top_p: float) -> None:
    likely = torch.randn(2, 20_000, generator=torch.Generator().manual_seed(1)).double().mul(0.3).softmax(-1)
    kept = _nucleus(likely, torch.tensor([[top_p], [1.0]], dtype=torch.float64))
    assert torch.equal(kept[1], likely[1])
    ordered = likely[0].sort(descending=True).values
    count = int((ordered.cumsum(-1) < top_p).sum()) + 1
    assert torch.equal(kept[0].sort(descending=True).values[:count], ordered[:count])
    assert int((kept[0] > 0).sum()) == count


@pytest.mark.parametrize("sampling", [Sampling(0.0), Sampling(1e-4), Sampling(5.0, top_p=0.01)])
def test_the_most_likely_token_where_nothing_else_is_left(sampling: Sampling) -> None:
    assert choose(LOGITS.expand(3, -1), [sampling] * 3, [0.0, 0.5, 0.999999]) == [1, 1, 1]


def test_answers_depend_on_seed_and_prompt_and_not_on_the_batch(tmp_path: Path) -> None:
    loaded = load_model(marked_model(tmp_path))
    lists = ("free", "constrained", "absent")
    requests = [
        Request([{"role": "user", "content": "Say " * length}], listing=lists[seed % 3], sampling=Sampling(1.0, 0.95, seed))
        for seed, length in enumerate((3, 9, 1, 4, 3, 3))
    ]
    together = generate(loaded, requests, max_new_tokens=8, batch_size=6)
    assert together == [generate(loaded, [request], max_new_tokens=8, batch_size=1)[0] for request in requests]
    assert together == generate(loaded, requests, max_new_tokens=8, batch_size=4)
    same = [Request(requests[0].messages, sampling=Sampling(1.0, 1.0, seed)) for seed in range(6)]
    assert len({answer.raw for answer in generate(loaded, same, max_new_tokens=8, batch_size=6)}) > 3
