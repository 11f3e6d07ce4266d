"""One rank: `python -m tailmark.train.worker JOB`, started by torchrun or DeepSpeed's launcher."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path

from tailmark.errors import EXIT_INTERRUPTED, EXIT_STOPPED, EXIT_USER_ERROR, Stopped, TailmarkError
from tailmark.files import write_json
from tailmark.train.job import Job, read_job

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel (Linux) to kill this process when its parent ends, however it ends: no rank outlives its launcher."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Train, and leave a note for the launcher where that did not go well."""
    die_with_parent()
    code = 1
    try:
        code = _run(read_job(Path(sys.argv[1])), int(os.environ.get("RANK", "0")))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        # Without the usual teardown: after a failure the other ranks are gone, and the process group's destructor would wait for them.
        os._exit(code)


def _run(job: Job, rank: int) -> int:
    """Train; returns the exit code."""
    try:
        train(job)
    except Stopped as stop:
        _note(job, rank, kind="Stopped", what=str(stop))
        return EXIT_STOPPED
    except TailmarkError as error:
        _note(job, rank, kind=type(error).__name__, what=error.what, where=error.where, fix=error.fix)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:  # the launcher tells the user; the log keeps the traceback
        traceback.print_exc()
        last = traceback.extract_tb(error.__traceback__)[-1]
        _note(job, rank, kind="crash", what=f"{type(error).__name__}: {error}", where=f"{last.filename}:{last.lineno}")
        return 1
    return 0


def _note(job: Job, rank: int, **content: str | None) -> None:
    """Tell the launcher; where that cannot be written (the disk is full, the folder gone), the log gets it."""
    try:
        write_json(job.problem(rank), content)
    except (OSError, TailmarkError) as error:
        with suppress(OSError):
            print(f"{content} could not be written: {error}", file=sys.stderr, flush=True)


def train(job: Job) -> None:
    """Train on this rank, and on rank 0 write the model and the result."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    import torch
    import torch.distributed as dist
    from transformers.utils import logging

    from tailmark.chat.vocabulary import marker_sources
    from tailmark.train.engine import gather_parameters, init_ranks, make_engine
    from tailmark.train.export import export
    from tailmark.train.head import sliceable
    from tailmark.train.join import join, limit_waiting
    from tailmark.train.locks import hold_as_rank
    from tailmark.train.loop import Loop
    from tailmark.train.model import GradientWatch, SupervisedModel, load_model

    logging.disable_progress_bar()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(job.config.seed)
    limit_waiting(job.config.train.timeout_minutes)
    device = init_ranks()
    job = join(job)
    held = hold_as_rank(job.scratch)
    model = load_model(job.layout.base, job.config.train, marker_sources(job.layout.prepared(job.arm) / "tokenizer"))
    parameters = {"parameters": _count(model), "trainable_parameters": _count(model, trainable=True)}
    watch = GradientWatch(model)
    supervised = SupervisedModel(model, sliced=sliceable(model, job.config.train.zero_stage))
    loop = Loop(job, make_engine(supervised, job.config.train), watch, device, stop)
    progress = loop.run()
    state = {name.removeprefix("model."): tensor for name, tensor in gather_parameters(loop.engine, job.config.train.lora).items()}
    if dist.get_rank() == 0:
        export(job.config, job.layout, job.arm, state)
        write_json(job.result, vars(progress) | parameters | {"precision": job.config.train.precision})
    dist.barrier()
    held.close()


def _count(model: object, *, trainable: bool = False) -> int:
    return sum(item.numel() for item in model.parameters() if item.requires_grad or not trainable)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
