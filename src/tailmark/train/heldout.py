"""The held-out loss, by head and tail, of the answers and of the marker lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from tailmark.packs import ANSWER, MARKERS, Pack
from tailmark.train.data import empty_pack, to_batch
from tailmark.train.engine import sum_over_ranks

_SLICES = (("answer_head", ANSWER, False), ("answer_tail", ANSWER, True), ("markers_head", MARKERS, False), ("markers_tail", MARKERS, True))


def heldout_losses(engine: Any, packs: Sequence[Pack], device: torch.device) -> dict[str, float]:
    """Mean negative log-likelihood per token (nats) of each slice that has tokens: `answer`, `answer_head`, `answer_tail`, `markers`, ...

    The ranks share the packs; each runs as many as the others, because ZeRO 3 gathers parameters in every forward pass.
    """
    rank, ranks = dist.get_rank(), dist.get_world_size()
    rounds = -(-len(packs) // ranks)
    mine = list(packs[rank::ranks])
    mine += [empty_pack()] * (rounds - len(mine))
    totals = [0.0] * (2 * len(_SLICES))
    engine.eval()
    with torch.no_grad():
        for pack in mine:
            _add(totals, engine, pack, device)
    engine.train()
    sums = sum_over_ranks(totals, device)
    return _means({name: (sums[2 * index], sums[2 * index + 1]) for index, (name, _, _) in enumerate(_SLICES)})


def _add(totals: list[float], engine: Any, pack: Pack, device: torch.device) -> None:
    batch = to_batch(pack)
    losses = engine(batch.to(device)).cpu()
    for index, (_, kind, tail) in enumerate(_SLICES):
        chosen = (batch.kinds == kind) & (batch.tail == tail)
        totals[2 * index] += float(losses[chosen].double().sum())
        totals[2 * index + 1] += int(chosen.sum())


def _means(sums: dict[str, tuple[float, float]]) -> dict[str, float]:
    for part in ("answer", "markers"):
        head, tail = sums[f"{part}_head"], sums[f"{part}_tail"]
        sums[part] = (head[0] + tail[0], head[1] + tail[1])
    return {name: total / tokens for name, (total, tokens) in sorted(sums.items()) if tokens}
