"""How much each supervised token counts in the loss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tailmark.config import Train
from tailmark.packs import ANSWER, MARKERS
from tailmark.train.data import Batch

_TERMINATORS = frozenset(".!?…。！？।؟\n")


@dataclass(frozen=True)
class LossWeights:
    """The weights of a batch's supervised tokens.

    Attributes:
        marker: of the tokens of the completion's marker list, where an answer token has 1.
        end: of the answer tokens that follow the end of a sentence or line, whether they end the answer or go on with it. What is weighted
            depends on what stands before and not on what follows, so how likely an answer is to end stays what the data say.
        ends: bool [words], whether a token ends a sentence or line (None: no token is looked at).
    """

    marker: float = 1.0
    end: float = 1.0
    ends: Tensor | None = None

    @classmethod
    def of(cls, options: Train, tokenizer: Path) -> LossWeights:
        """As the options say; `tokenizer`: the folder with that of the packs, read only where it is needed."""
        return cls(options.marker_loss_weight, options.end_loss_weight, None if options.end_loss_weight == 1 else ending_tokens(tokenizer))

    def __call__(self, batch: Batch) -> Tensor:
        """fp32 [supervised]."""
        weights = torch.where(batch.kinds == MARKERS, self.marker, 1.0)
        if self.ends is None:
            return weights
        before = batch.input_ids[0, batch.predicting]
        after_end = (batch.kinds == ANSWER) & self.ends.to(before.device)[before]
        return torch.where(after_end, self.end, weights)


def ending_tokens(folder: Path) -> Tensor:
    """Which tokens of the tokenizer in a folder end a sentence or line: bool [words]."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = tokenizer.batch_decode([[index] for index in range(len(tokenizer))])
    return torch.tensor([text.rstrip(" ")[-1:] in _TERMINATORS and bool(text.strip(" ")) for text in texts])
