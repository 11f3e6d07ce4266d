"""DeepSpeed: how it is started, and the few things training asks of it."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

if not torch.cuda.is_available():
    os.environ["DS_ACCELERATOR"] = "cpu"
os.environ.setdefault("DS_LOG_LEVEL", "warning")
warnings.filterwarnings("ignore", category=FutureWarning)

import deepspeed  # noqa: E402
from deepspeed.ops import __compatible_ops__  # noqa: E402

from tailmark.config import Lora, Train  # noqa: E402
from tailmark.errors import StorageError  # noqa: E402
from tailmark.train.lora import merge  # noqa: E402
from tailmark.train.universal import is_universal  # noqa: E402

BUCKET = 50_000_000
"""Elements of the buffer in which gradients are collected before they are reduced; a larger parameter makes it larger."""
LIVE = 1_000_000_000
"""Parameters that ZeRO 3 keeps gathered at most before it lets go of the first (DeepSpeed's default)."""
_BYTES_PER_TRAINED = 16
"""fp32 master weight, two moments and the compute weight: what a checkpoint holds of each trained parameter."""
_NEARLY_NONE = 4 << 20
"""Free bytes below which a failed write is a full disk's doing."""


def init_ranks() -> torch.device:
    """Join the other ranks (gloo on the CPU, NCCL on GPUs); returns this rank's device."""
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        deepspeed.init_distributed(dist_backend="nccl", verbose=False)
        return device
    # On the CPU DeepSpeed would compile a shared-memory operator here: 45 to 90 s the first time, and a crash without g++.
    __compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    return torch.device("cpu")


def make_engine(model: nn.Module, options: Train) -> Any:
    """A DeepSpeed engine with torch's AdamW over the trainable parameters."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    parts = [(decays, [item for item in trained if getattr(item, "decays", True) == decays]) for decays in (True, False)]
    groups = [{"params": part, "weight_decay": options.weight_decay * decays} for decays, part in parts if part]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.95), fused=options.fused_optimizer or None)
    largest = max(parameter.numel() for parameter in trained)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=engine_config(options, largest))
    return engine


def engine_config(options: Train, largest: int) -> dict[str, Any]:
    """DeepSpeed's configuration; `largest`: elements of the largest trainable parameter, which a bucket must hold.

    Steps are counted by the loop, which sets the accumulation boundary itself, so that a step may have any number of packs.
    """
    bucket = max(BUCKET, largest)
    buckets = {"reduce_bucket_size": bucket, "allgather_bucket_size": bucket}
    zero: dict[str, Any] = {"stage": options.zero_stage, "overlap_comm": torch.cuda.is_available(), **buckets}
    zero["stage3_max_live_parameters"] = LIVE
    if options.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": options.gradient_clip,
        "bf16": {"enabled": options.precision == "bf16"},
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
    }


def set_learning_rate(engine: Any, rate: float) -> None:
    """Set the rate of the next update."""
    for group in engine.optimizer.param_groups:
        group["lr"] = rate


def backward(engine: Any, token_losses: Tensor, weight: float, *, last: bool) -> None:
    """Add one pack's gradients.

    Args:
        token_losses: weighted negative log-likelihoods of the pack's supervised tokens (none: zero gradients).
        weight: sum of the weights of the step's supervised tokens, over all packs and ranks.
        last: whether it is this rank's last pack of the step.
    """
    # DeepSpeed averages gradients over the ranks; the step's loss is a sum over them, hence the factor.
    share = token_losses.sum() * (dist.get_world_size() / weight)
    engine.set_gradient_accumulation_boundary(last)
    engine.backward(share)


def sum_over_ranks(values: list[float], device: torch.device) -> list[float]:
    """Element-wise sums, in double precision."""
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return [float(value) for value in tensor.tolist()]


def largest_over_ranks(value: float, device: torch.device) -> float:
    """The largest of the ranks' values."""
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return float(tensor)


def save_parts(engine: Any, folder: Path) -> None:
    """Every rank writes its part of a checkpoint into `folder`. Frozen parameters are left out: the base model holds them.

    Raises:
        StorageError: the disk is full.
    """
    if dist.get_rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    dist.barrier()
    with _full_disk(engine, folder):
        engine.save_checkpoint(str(folder.parent), tag=folder.name, save_latest=False, exclude_frozen_parameters=True)
    dist.barrier()


@contextmanager
def _full_disk(engine: Any, folder: Path) -> Iterator[None]:
    """torch reports a full disk as a RuntimeError of its file writer; tell it by the space that is left.

    Other ranks' ends are RuntimeErrors too, so what a failed write leaves must be next to nothing.
    """
    needed = _BYTES_PER_TRAINED * sum(getattr(p, "ds_numel", p.numel()) for p in engine.module.parameters() if p.requires_grad)
    free = shutil.disk_usage(folder).free
    full = StorageError(
        f"The disk is too full for a checkpoint: it takes about {needed / 2**20:.0f} MiB, {free / 2**20:.0f} MiB were left.",
        where=str(folder.parent),
        fix="free some space, then run the same command again; training goes on from the last checkpoint",
    )
    if free < needed:
        raise full
    try:
        yield
    except (OSError, RuntimeError) as error:
        if shutil.disk_usage(folder).free >= _NEARLY_NONE:
            raise
        raise full from error


def load_parts(engine: Any, folder: Path) -> None:
    """Every rank reads its part of a verified checkpoint, or of its conversion from another number of ranks."""
    engine._config.load_universal_checkpoint = is_universal(folder)
    loaded, _ = engine.load_checkpoint(str(folder.parent), tag=folder.name, load_module_strict=False)
    assert loaded is not None, f"DeepSpeed found nothing in {folder}"


def gather_parameters(engine: Any, lora: Lora | None = None) -> dict[str, Tensor]:
    """The whole parameters in bf16 on the CPU, by name, with adapters merged; only rank 0 gets any.

    One parameter at a time is gathered (ZeRO 3).
    """
    state: dict[str, Tensor] = {}
    for name, parameter in engine.module.named_parameters():
        partitioned = hasattr(parameter, "ds_id")
        with deepspeed.zero.GatheredParameters([parameter], enabled=partitioned):
            if dist.get_rank() == 0:
                # copy: the parameter may be a view of DeepSpeed's flat buffer, or partitioned again after this block.
                state[name] = parameter.detach().to("cpu", torch.bfloat16, copy=True)
    return merge(state, lora) if lora else state
