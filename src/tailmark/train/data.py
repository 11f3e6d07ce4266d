"""From packs to tensors: the batches of a step, and the held-out rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tailmark.errors import DataError
from tailmark.packs import Pack, PackReader

_REPREPARE = "run `dvc repro prepare`"


@dataclass(frozen=True)
class Batch:
    """One pack as the model takes it.

    Attributes:
        input_ids, position_ids: int64 [1, tokens]; positions restart in each document.
        lengths: tokens of each document.
        predicting: int64 [supervised], the positions whose next token is supervised.
        targets: int64 [supervised], those next tokens.
        kinds: int8 [supervised], `MARKERS` or `ANSWER`.
        tail: bool [supervised], whether the token's document is of the tail.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    lengths: tuple[int, ...]
    predicting: torch.Tensor
    targets: torch.Tensor
    kinds: torch.Tensor
    tail: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        moved: dict[str, Any] = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return replace(self, **moved)


def supervised_positions(pack: Pack) -> npt.NDArray[np.int64]:
    """Positions of the tokens that are predicted: supervised, and not the first of their document, which nothing precedes."""
    supervised = pack.kinds > 0
    supervised[_starts(pack.lengths)] = False
    return np.flatnonzero(supervised)


def _starts(lengths: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    return np.cumsum(lengths, dtype=np.int64) - lengths


def to_batch(pack: Pack) -> Batch:
    """The pack's tensors, on the CPU."""
    lengths = pack.lengths
    positions = np.arange(lengths.sum()) - np.repeat(_starts(lengths), lengths)
    predicted = supervised_positions(pack)
    tokens = torch.from_numpy(pack.input_ids.astype(np.int64))
    return Batch(
        input_ids=tokens[None],
        position_ids=torch.from_numpy(positions.astype(np.int64))[None],
        lengths=tuple(int(length) for length in lengths),
        predicting=torch.from_numpy(predicted - 1),
        targets=tokens[torch.from_numpy(predicted)],
        kinds=torch.from_numpy(pack.kinds[predicted].astype(np.int8)),
        tail=torch.from_numpy(np.repeat(pack.tail, lengths)[predicted].astype(np.bool_)),
    )


def empty_pack() -> Pack:
    """One token, nothing supervised: what a rank runs when the step has fewer packs than ranks."""
    return Pack(0, np.zeros(1, np.int32), np.zeros(1, np.int8), np.ones(1, np.int32), ("",), np.zeros(1, np.bool_))


class TrainingPacks:
    """The packs of all epochs, by optimizer step.

    Raises:
        DataError: an epoch is missing, or an epoch has a step without packs.
    """

    def __init__(self, folder: Path, epochs: int) -> None:
        self.readers = [PackReader(folder / f"epoch-{epoch:03d}.arrow") for epoch in range(epochs)]
        for reader in self.readers:
            hollow = next((step for step in range(reader.steps) if not reader.of_step(step)), None)
            if hollow is not None or not len(reader):
                what = f"Step {hollow} has no packs." if len(reader) else "There is nothing to train on."
                raise DataError(what, where=str(reader.path), fix=_REPREPARE)

    @property
    def steps(self) -> int:
        """Optimizer steps of all epochs."""
        return sum(reader.steps for reader in self.readers)

    def of_step(self, step: int) -> list[Pack]:
        """The packs of one step, counted from 0 over all epochs."""
        for reader in self.readers:
            if step < reader.steps:
                return [reader[index] for index in reader.of_step(step)]
            step -= reader.steps
        raise IndexError(step)


def heldout_packs(reader: PackReader, rows: int) -> list[Pack]:
    """The first `rows` held-out rows in order of id, so that both arms measure the same rows, packed anew in that order."""
    documents = sorted((document for index in range(len(reader)) for document in _documents(reader[index])), key=lambda item: item.row_ids)
    longest = max((len(reader[index].input_ids) for index in range(len(reader))), default=0)
    return list(_concatenate(documents[:rows], longest))


def _documents(pack: Pack) -> Iterable[Pack]:
    for number, (start, length) in enumerate(zip(_starts(pack.lengths), pack.lengths, strict=True)):
        part = slice(int(start), int(start + length))
        one = slice(number, number + 1)
        yield Pack(pack.step, pack.input_ids[part], pack.kinds[part], pack.lengths[one], pack.row_ids[one], pack.tail[one])


def _concatenate(documents: Sequence[Pack], longest: int) -> Iterable[Pack]:
    group: list[Pack] = []
    for document in documents:
        if group and sum(len(item.input_ids) for item in group) + len(document.input_ids) > longest:
            yield _joined(group)
            group = []
        group.append(document)
    if group:
        yield _joined(group)


def _joined(documents: Sequence[Pack]) -> Pack:
    return Pack(
        step=0,
        input_ids=np.concatenate([item.input_ids for item in documents]),
        kinds=np.concatenate([item.kinds for item in documents]),
        lengths=np.concatenate([item.lengths for item in documents]),
        row_ids=tuple(row for item in documents for row in item.row_ids),
        tail=np.concatenate([item.tail for item in documents]),
    )
