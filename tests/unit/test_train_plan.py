"""What a training takes, said beforehand: arithmetic, memory, steps, time, cost."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tailmark.base.tiny import tiny_model, tiny_tokenizer
from tailmark.config import Config, Lora, Train
from tailmark.errors import ModelError
from tailmark.files import write_json
from tailmark.hardware import native_bf16, peak_flops
from tailmark.layout import Layout
from tailmark.modelfolder import MARKER_USE
from tailmark.packs import Pack, write_packs
from tailmark.taxonomy import load_taxonomy
from tailmark.train import plan
from tailmark.train.data import Batch, to_batch
from tailmark.train.memory import Size, activations, count_parameters, empty_model, gradient_buffers, model_states
from tailmark.train.meter import arithmetic
from tailmark.train.model import SupervisedModel, load_model
from tailmark.train.workload import workload

TAXONOMY = Path(__file__).resolve().parents[2] / "src" / "tailmark" / "taxonomy" / "paper.yaml"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a base model of two layers and no data."""
    path = tmp_path_factory.mktemp("plan")
    tokenizer = tiny_tokenizer()
    tiny_model(tokenizer, 3).save_pretrained(Layout(path).base)
    return path


def _pack(tokens: int = 60) -> Pack:
    kinds = np.r_[np.zeros(tokens // 2), np.full(tokens - tokens // 2, 2)].astype(np.int8)
    return Pack(0, np.arange(tokens, dtype=np.int32) % 90 + 3, kinds, np.array([tokens], np.int32), ("row",), np.zeros(1, np.bool_))


def _counted(folder: Path, options: Train, batch: Batch) -> int:
    """Operations of a pass forward and backward, by torch's own counter; those of attention apart."""
    from torch.utils.flop_counter import FlopCounterMode

    model = SupervisedModel(load_model(folder, options))
    with FlopCounterMode(display=False) as counter:
        model(batch).sum().backward()
    counts = counter.get_flop_counts()["Global"]
    return int(sum(number for operation, number in counts.items() if "attention" not in str(operation)))


@pytest.mark.parametrize("way", [{}, {"trainable_layers": 1}, {"lora": {"rank": 4}}])
def test_the_arithmetic_is_what_torch_counts(root: Path, way: dict[str, Any]) -> None:
    folder, batch, options = Layout(root).base, to_batch(_pack()), Train.model_validate({"precision": "fp32"} | way)
    cost = arithmetic(empty_model(folder, options))
    needed = cost.per_token * 60 + cost.per_supervised * len(batch.targets)
    # The products below the first trained weight pass no gradient on; the formula counts them in its layer.
    assert needed == pytest.approx(_counted(folder, options, batch), rel=0.06)


def test_attention_counts_the_pairs_that_see_each_other(root: Path) -> None:
    cost = arithmetic(empty_model(Layout(root).base, Train(precision="bf16")))
    width, layers = 128, 2
    assert cost.per_pair == 4 * width * 3 * layers
    assert cost.of([3, 2], 0) - cost.of([1] * 5, 0) == cost.per_pair * (6 + 3 - 5)


def test_peaks_are_found_by_the_most_that_a_name_says() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989.4e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_flops("NVIDIA A10G") == 70e12
    assert peak_flops("NVIDIA GeForce RTX 4090") == 165.2e12
    assert peak_flops("AMD EPYC") is None


def _saved(folder: Path, options: Train, batch: Batch) -> int:
    """Bytes that autograd really keeps for the backward pass."""
    model = SupervisedModel(load_model(folder, options)).train()
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = model(batch)
    assert losses.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("recomputed", [False, True])
def test_planned_activations_are_what_autograd_keeps(root: Path, precision: Any, recomputed: bool) -> None:
    folder, options = Layout(root).base, Train(precision=precision, gradient_checkpointing=recomputed)
    batch = to_batch(_pack(240))
    supervised = len(batch.targets)
    logits = supervised * 768 * (4 + (2 if precision == "bf16" else 4))
    planned = activations(folder, options, 240, supervised) - logits
    measured = _saved(folder, options, batch)
    if recomputed:  # the layer that is computed again is planned, and not yet there after the forward pass
        one = activations(folder, options.model_copy(update={"gradient_checkpointing": False}), 240, supervised) - logits
        assert measured < planned < one
    else:
        assert planned == pytest.approx(measured, rel=0.02)


def test_memory_falls_with_the_stage_and_the_ranks() -> None:
    size, large = Size(100_000_000, 40_000_000, 1_000_000, 60_000_000), Size(7_000_000_000, 7_000_000_000, 131_000_000, 131_000_000)

    def memory(stage: int, ranks: int, of: Size = size, **train: Any) -> int:
        return model_states(Train.model_validate({"precision": "bf16"} | train), stage, ranks, of)

    assert memory(1, 4, large) > memory(2, 4, large) > memory(3, 4, large)
    assert memory(1, 4) > memory(2, 4)
    assert memory(3, 4) > memory(2, 4), "ZeRO 3 keeps a small model's weights gathered"
    assert memory(1, 1) == memory(2, 1)
    assert memory(2, 8) < memory(2, 2)
    assert memory(2, 1, precision="fp32") > memory(2, 1, precision="bf16")
    assert memory(2, 1, offload_optimizer=True) < memory(2, 1)
    options = Train(precision="bf16")
    assert [gradient_buffers(options, stage, size) for stage in (1, 2, 3)] == [2 * 2 * 60_000_000] * 2 + [2 * 60_000_000]
    assert gradient_buffers(options, 1, size, overlapped=False) == 2 * 60_000_000


def test_adapters_are_all_that_is_trained(root: Path) -> None:
    folder = Layout(root).base
    full, lora = (count_parameters(empty_model(folder, Train(precision="bf16", lora=way))) for way in (None, Lora(rank=2)))
    assert full.total == full.trained
    assert lora.trained == lora.total - full.total > 0


def _config(**train: Any) -> Config:
    return Config.model_validate({"taxonomy": {"file": str(TAXONOMY)}, "prepare": {"pack_length": 256, "rows_per_step": 2}, "train": train})


def test_prepared_packs_are_counted(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = Layout(tmp_path)
    tokenizer = tiny_tokenizer()
    tiny_model(tokenizer, 3).save_pretrained(layout.base)
    metadata = {"arm": "marked", "taxonomy": load_taxonomy(TAXONOMY).digest}
    packs = [Pack(step, *list(vars(_pack(25)).values())[1:]) for step in range(5) for _ in range(4)]
    for name in ("train/epoch-000.arrow", "heldout.arrow"):
        write_packs(layout.prepared("marked") / name, packs, metadata)
    tokenizer.save_pretrained(layout.prepared("marked") / "tokenizer")
    write_json(layout.prepared("marked") / MARKER_USE, {})
    plan.run(_config(ranks=4, zero_stage=2), layout, "marked", tokens_per_s=1.0, price=3.6)
    out = capsys.readouterr().out
    assert "counted in" in out
    assert re.search(r"steps: +5 in 1 epoch", out)
    assert re.search(r"tokens: +500, of which 260 supervised", out)
    lines = {int(line.split()[0]): line for line in out.splitlines() if line.strip()[:3].strip().isdigit()}
    assert set(lines) == set(plan.GPUS)
    assert "packs:      4 a step: more GPUs than that have nothing to do" in out
    assert "8 min 20 s" in lines[1]  # 500 tokens at one a second
    assert all("2 min 5 s" in lines[gpus] for gpus in (4, 8, 128))
    assert lines[4].endswith("<- this configuration")
    assert [lines[gpus].split()[-1] for gpus in (1, 2, 8)] == ["0.50", "0.50", "1.00"], "GPUs without work cost as much"


def test_without_data_the_plan_says_what_it_assumed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan.run(_config(), Layout(root), "marked")
    out = capsys.readouterr().out
    assert "no data here: assumed 2,700,000 rows" in out
    assert "40% of what an H100 can do" in out


def test_rows_that_are_not_prepared_are_estimated(root: Path, tmp_path: Path) -> None:
    from tailmark.records import annotated_schema, write_shards

    taxonomy = load_taxonomy(TAXONOMY)
    schema = annotated_schema(taxonomy)
    row = {
        "id": "a",
        "prompt": [{"role": "user", "content": "w" * 400}],
        "completion": "w" * 200,
        "source_name": "s",
        "license": "x",
        "split": "train",
    }
    rows = [dict.fromkeys(schema.names) | row | {"id": f"{index:04d}", "metadata": []} for index in range(40)]
    write_shards(Layout(tmp_path).annotated / "rows", rows, schema)
    baseline, marked = (workload(_config(), Layout(tmp_path), arm) for arm in ("baseline", "marked"))
    assert not baseline.exact
    assert baseline.rows == marked.rows == 36, "a tenth is held out"
    assert baseline.steps == 18
    assert baseline.tokens == 36 * (100 + 50 + 15)
    assert marked.supervised > baseline.supervised == 36 * 50


def test_a_turn_that_is_not_full_takes_as_long(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of 400 tokens, 3 packs a step: two GPUs take two turns."""
    config = _config(ranks=128)
    config = config.model_copy(update={"prepare": config.prepare.model_copy(update={"rows_per_step": 3, "pack_length": 400})})
    assert workload(config, Layout(root), "marked").packs == 3
    plan.run(config, Layout(root), "marked", tokens_per_s=30000.0)
    lines = {int(line.split()[0]): line for line in capsys.readouterr().out.splitlines() if line.strip()[:3].strip().isdigit()}
    assert [float(lines[gpus].split()[-1].replace(",", "")) for gpus in (1, 2, 4)] == [10.0, 13.33, 13.33]


def test_the_papers_gpus_all_have_work() -> None:
    from tailmark.config import load_config

    config = load_config(TAXONOMY.parents[3] / "params" / "paper.yaml")
    gpus = config.train.nodes * config.train.ranks
    assert 0.9 < config.prepare.rows_per_step * 400 / config.prepare.pack_length / gpus <= 1


def test_emulated_bf16_is_not_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not native_bf16()


@pytest.mark.parametrize(("said", "native"), [(None, True), ("0", False)])
def test_a_cpu_with_bf16_can_be_kept_to_fp32(monkeypatch: pytest.MonkeyPatch, said: str | None, native: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    monkeypatch.delenv("TAILMARK_CPU_BF16") if said is None else monkeypatch.setenv("TAILMARK_CPU_BF16", said)
    assert native_bf16() is native


def test_a_plan_needs_the_shape_of_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no base model to measure"):
        plan.run(_config(), Layout(tmp_path), "baseline")
