"""What a step is measured by, on a real process group of one rank; above all when there is a model FLOPs utilisation, and when not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM, GPT2Config

from tailmark.base.tiny import tiny_model, tiny_tokenizer
from tailmark.config import Config
from tailmark.packs import Pack
from tailmark.train import meter
from tailmark.train.meter import Meter, arithmetic
from tailmark.train.stage import _Display


@pytest.fixture(autouse=True)
def group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def made(model: Any, precision: str = "bf16") -> Meter:
    return Meter(model, Config.model_validate({"train": {"precision": precision}}), torch.device("cpu"))


def pack(*lengths: int) -> Pack:
    tokens, rows = sum(lengths), len(lengths)
    ids, kinds = np.arange(tokens, dtype=np.int32), np.full(tokens, 2, np.int8)
    return Pack(0, ids, kinds, np.array(lengths, np.int32), tuple(f"row-{n}" for n in range(rows)), np.zeros(rows, np.bool_))


def step(measured_by: Meter) -> dict[str, float]:
    measured_by.start()
    return measured_by.stop([pack(30, 20), pack(50)], 40)


def test_utilisation_is_what_was_needed_over_what_was_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(tiny_tokenizer(), 3)
    monkeypatch.setattr(meter, "peak_flops", lambda _: 2e12)
    measured = step(made(model))
    needed = arithmetic(model).of([30, 20, 50], 40)
    assert measured["mfu"] == pytest.approx(needed * measured["tokens_per_s"] / 100 / 2e12)


def test_utilisation_is_left_out_where_it_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(tiny_tokenizer(), 3)
    assert "mfu" not in step(made(model)), "nothing is known of a processor's peak"
    monkeypatch.setattr(meter, "peak_flops", lambda _: 2e12)
    assert "mfu" not in step(made(model, "fp32")), "the peaks that are known are those of bf16"
    shapes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 60}
    assert "mfu" not in step(made(AutoModelForCausalLM.from_config(GPT2Config(**shapes)))), "its layers are not found"


class Written:
    """What a tracked run was given."""

    def __init__(self) -> None:
        self.metrics: dict[int, dict[str, float]] = {}

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.metrics[step] = dict(metrics)


def test_what_was_measured_is_logged_and_nothing_in_the_place_of_what_was_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model, run = tiny_model(tiny_tokenizer(), 3), Written()
    shown = _Display("marked", run)  # type: ignore[arg-type]
    shown.show({"event": "start", "step": 0, "steps": 2})
    unknown = step(made(model))
    shown.show({"event": "step", "step": 1, "loss": 2.0, **unknown})
    monkeypatch.setattr(meter, "peak_flops", lambda _: 2e12)
    known = step(made(model))
    shown.show({"event": "step", "step": 2, "loss": 1.5, **known})
    assert run.metrics == {1: {"loss": 2.0, **unknown}, 2: {"loss": 1.5, **known}}
    assert "mfu" in run.metrics[2]
    assert "mfu" not in run.metrics[1]
