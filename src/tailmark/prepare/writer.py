"""Examples as packs: dropout, prompts, steps and bins, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailmark.config import Prepare
from tailmark.console import Progress
from tailmark.engine import Run
from tailmark.layout import Arm
from tailmark.packs import ANSWER, MARKERS, UNSUPERVISED, Pack, write_packs
from tailmark.prepare.dropout import Dropout
from tailmark.prepare.examples import Example, Ids
from tailmark.prepare.packing import chunks, epoch_order, first_fit_decreasing
from tailmark.prepare.rows import BATCH
from tailmark.prepare.work import prompt_ids
from tailmark.taxonomy import MarkerList

HELDOUT_EPOCH = -1
"""The epoch that the held-out rows' dropout is drawn for: the same rows keep the same prompts whatever the number of epochs."""


@dataclass
class _Tally:
    """What dropout did.

    Attributes:
        rows, unlisted: all of them, and those without any list.
        lists, lists_removed: the others, and those of them whose prompt has none.
        markers, markers_removed: of the lists that stayed.
    """

    rows: int = 0
    unlisted: int = 0
    lists: int = 0
    lists_removed: int = 0
    markers: int = 0
    markers_removed: int = 0

    def add(self, markers: MarkerList, kept: MarkerList | None) -> None:
        self.lists += 1
        if kept is None:
            self.lists_removed += 1
        else:
            self.markers += len(markers)
            self.markers_removed += len(markers) - len(kept)

    def rates(self) -> dict[str, float]:
        rates = {
            "list": self.unlisted / max(self.rows, 1),
            "dataset": self.lists_removed / max(self.lists, 1),
            "sample": self.markers_removed / max(self.markers, 1),
        }
        return {name: round(rate, 4) for name, rate in rates.items()}


@dataclass(frozen=True)
class Writer:
    """Packs examples and writes them; `run` maps over workers that `work.start` has prepared."""

    run: Run
    arm: Arm
    options: Prepare
    dropout: Dropout
    tail: frozenset[str]

    def epoch(self, folder: Path, train: Sequence[Example], epoch: int, seed: int, shared: dict[str, Any]) -> dict[str, Any]:
        """Write one epoch; returns its part of the report."""
        tally = _Tally()
        order = [train[index] for index in epoch_order([example.id for example in train], seed, epoch)]
        packs: list[Pack] = []
        progress = Progress(f"packing epoch {epoch + 1} of {self.options.epochs}", len(order))
        every = self._documents(order, epoch, tally)
        for step, members in enumerate(chunks(order, self.options.rows_per_step)):
            documents = [next(every) for _ in members]
            for bin_ in first_fit_decreasing([document.length for document in documents], self.options.pack_length):
                packs.append(self._pack(step, [(members[index], documents[index]) for index in bin_]))
            progress.advance(len(members))
        progress.close()
        return self._write(folder / "train" / f"epoch-{epoch:03d}.arrow", packs, tally, {**shared, "epoch": epoch})

    def heldout(self, folder: Path, heldout: Sequence[Example], shared: dict[str, Any]) -> dict[str, Any]:
        """Write the held-out packs. What shares a pack follows from the longest rendering, so it is the same in both arms."""
        tally = _Tally()
        packs: list[Pack] = []
        every = self._documents(heldout, HELDOUT_EPOCH, tally)
        for members in chunks(heldout, self.options.rows_per_step):
            documents = [next(every) for _ in members]
            for bin_ in first_fit_decreasing([example.longest for example in members], self.options.pack_length):
                packs.append(self._pack(len(packs), [(members[index], documents[index]) for index in bin_]))
        return self._write(folder / "heldout.arrow", packs, tally, {**shared, "epoch": None})

    def _documents(self, examples: Sequence[Example], epoch: int, tally: _Tally) -> Iterator[_Document]:
        """The examples as this arm and placement train them, one after the other."""
        if self.arm == "baseline":
            yield from (_Document(example.prompt_ids, _NOTHING, example.answer_ids) for example in examples)
            return
        placement = self.options.placement
        lists = [None if placement == "completion" else self.dropout(example.markers, epoch, example.id) for example in examples]
        for example, kept, prompt in zip(examples, lists, self._prompts(examples, lists), strict=True):
            unlisted = self.dropout.unlisted(epoch, example.id)
            tally.rows, tally.unlisted = tally.rows + 1, tally.unlisted + unlisted
            if placement != "completion" and not unlisted:
                tally.add(example.markers, kept)
            yield _Document(prompt, _NOTHING if unlisted or placement == "prompt" else example.list_ids, example.answer_ids)

    def _prompts(self, examples: Sequence[Example], lists: Sequence[MarkerList | None]) -> Iterator[Ids]:
        """The prompts after dropout; one whose list was dropped is the one without a list."""
        with_list = [(example.messages, kept) for example, kept in zip(examples, lists, strict=True) if kept is not None]
        rendered = (ids for batch in self.run(prompt_ids, chunks(with_list, BATCH)) for ids in batch)
        for example, kept in zip(examples, lists, strict=True):
            yield example.prompt_ids if kept is None else next(rendered)

    def _pack(self, step: int, members: Sequence[tuple[Example, _Document]]) -> Pack:
        return Pack(
            step=step,
            input_ids=np.concatenate([part for _, document in members for part in document.parts]),
            kinds=np.concatenate([document.kinds for _, document in members]),
            lengths=np.array([document.length for _, document in members], np.int32),
            row_ids=tuple(example.id for example, _ in members),
            tail=np.array([example.tail_value in self.tail for example, _ in members], np.bool_),
        )

    def _write(self, path: Path, packs: list[Pack], tally: _Tally, shared: dict[str, Any]) -> dict[str, Any]:
        counts = _counts(packs)
        write_packs(path, packs, {**shared, **counts})
        fill = counts["tokens"] / (counts["packs"] * self.options.pack_length)
        return {**counts, "fill": round(fill, 4), "dropout": tally.rates() if tally.rows else None}


_NOTHING: Ids = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class _Document:
    """Prompt, list and answer of one row as they are trained."""

    prompt: Ids
    head: Ids
    answer: Ids

    @property
    def parts(self) -> tuple[Ids, Ids, Ids]:
        return self.prompt, self.head, self.answer

    @property
    def length(self) -> int:
        return sum(len(part) for part in self.parts)

    @property
    def kinds(self) -> np.ndarray[Any, np.dtype[np.int8]]:
        return np.repeat(np.array([UNSUPERVISED, MARKERS, ANSWER], np.int8), [len(part) for part in self.parts])


def _counts(packs: Sequence[Pack]) -> dict[str, int]:
    return {
        "steps": packs[-1].step + 1,
        "rows": sum(len(pack.row_ids) for pack in packs),
        "packs": len(packs),
        "tokens": sum(len(pack.input_ids) for pack in packs),
        "supervised_tokens": sum(pack.supervised for pack in packs),
        "marker_tokens": sum(int(np.count_nonzero(pack.kinds == MARKERS)) for pack in packs),
    }
