"""The ranks' first exchange: all of them train the same thing, go on from the same checkpoint, and see the same files."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import distributed_c10d

from tailmark.errors import TrainingError
from tailmark.train.job import Job

_SHARED_WITHIN_S = 60.0
"""Network file systems show a new file to other machines after some seconds."""


def limit_waiting(minutes: int) -> None:
    """Let no rank wait longer for another one; to be called before the ranks meet.

    DeepSpeed trains over groups of its own making, which take torch's default of half an hour, whatever the first group was given.
    """
    for name in ("default_pg_timeout", "default_pg_nccl_timeout"):
        setattr(distributed_c10d, name, timedelta(minutes=minutes))


def join(job: Job) -> Job:
    """The job with the checkpoint that rank 0 goes on from.

    Raises:
        TrainingError: this rank's machine has other inputs, or does not see rank 0's files.
    """
    token = uuid.uuid4().hex
    if dist.get_rank() == 0:
        (job.scratch / f"shared-{token}").touch()
    said = [(job.identity, job.resume, token)]
    dist.broadcast_object_list(said)
    identity, resume, token = said[0]
    _require_same(job, identity)
    _require_shared(job, token)
    dist.barrier()
    if dist.get_rank() == 0:
        (job.scratch / f"shared-{token}").unlink()
    return replace(job, resume=resume)


def _require_same(job: Job, leading: dict[str, str]) -> None:
    changed = ", ".join(name for name, value in leading.items() if job.identity.get(name) != value)
    if changed:
        raise TrainingError(
            f"This machine trains on other inputs than the first one: {changed} differ.",
            where=f"machine {job.node}: {job.layout.root}",
            fix="use one checkout, on a file system that all machines share",
        )


def _require_shared(job: Job, token: str) -> None:
    limit = time.monotonic() + _SHARED_WITHIN_S
    while not (job.scratch / f"shared-{token}").exists():
        if time.monotonic() > limit:
            raise TrainingError(
                "This machine does not see the files that the first one writes.",
                where=f"machine {job.node}: {job.scratch}",
                fix="put the checkout, or its .tailmark folder, on a file system that all machines share",
            )
        time.sleep(0.1)
