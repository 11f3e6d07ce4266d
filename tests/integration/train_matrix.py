"""One rank of tests/integration/test_train_matrix.py: train a few steps in every given way, one after the other.

    torchrun ... train_matrix.py FOLDER

FOLDER holds `ways.json` (name to options of `train`, `packs`, `base`), base models, and per kind of packs a checkout with `data/prepared`.
Rank 0 writes `result-<ranks>.json`: per way the losses and gradient norms of the steps, the sum of each final parameter, what the meter
said of the last step, and what stopped the training, if anything did.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tailmark.config import Config
from tailmark.errors import TrainingError
from tailmark.files import read_json, write_json
from tailmark.layout import Layout
from tailmark.train.engine import gather_parameters, init_ranks, make_engine
from tailmark.train.job import Job
from tailmark.train.loop import Loop
from tailmark.train.model import GradientWatch, SupervisedModel, load_model


def train(folder: Path, way: dict[str, Any], device: torch.device) -> dict[str, Any]:
    config = Config.model_validate({"train": way["train"], "prepare": {"pack_length": 256}})
    job = Job(config, Layout(folder / way["packs"]), "marked", {"config": "matrix"})
    job.scratch.mkdir(parents=True, exist_ok=True)
    job.events.unlink(missing_ok=True)
    torch.manual_seed(3)
    model = load_model(folder / way.get("base", "base"), config.train)
    watch = GradientWatch(model)
    loop = Loop(job, make_engine(SupervisedModel(model), config.train), watch, device, threading.Event())
    stopped = None
    try:
        for _ in range(loop.packs.steps):
            loop.step()
    except TrainingError as error:
        stopped = str(error)
    state = gather_parameters(loop.engine, config.train.lora)
    sums = {name.removeprefix("model."): float(weight.double().sum()) for name, weight in state.items()}
    curve = loop.progress.curve
    numbers = {"losses": [row["loss"] for row in curve], "norms": [row["gradient_norm"] for row in curve]}
    told = job.events.read_text(encoding="utf-8").splitlines() if job.events.exists() else []
    return numbers | {"sums": sums, "stopped": stopped, "told": [json.loads(line) for line in told]}


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    device = init_ranks()
    result = {}
    for name, way in read_json(folder / "ways.json").items():
        if dist.get_world_size() in way["ranks"]:
            result[name] = train(folder, way, device)
            dist.barrier()
    if dist.get_rank() == 0:
        write_json(folder / f"result-{dist.get_world_size()}.json", result)


if __name__ == "__main__":
    main()
