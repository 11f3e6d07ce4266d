"""Where every stage reads and writes, relative to the checkout. `dvc.yaml` names the same paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Arm = Literal["baseline", "marked"]
ARMS: tuple[Arm, Arm] = ("baseline", "marked")


@dataclass(frozen=True)
class Layout:
    """The paths of one checkout.

    Attributes:
        root: the checkout; every other path lies under it.
    """

    root: Path

    @property
    def ingested(self) -> Path:
        """`rows/part-*.parquet` (schema `RECORD`), `quarantine.parquet`, `report.json`."""
        return self.root / "data" / "ingested"

    @property
    def annotated(self) -> Path:
        """`rows/part-*.parquet` (`annotated_schema`), `quarantine.parquet`, `report.json`."""
        return self.root / "data" / "annotated"

    @property
    def validated(self) -> Path:
        """`result.json`, `profile.json`, `passed.json`, `failing_rows.parquet`, `report.html`. (Data Docs hold times, so they stand under
        `state / "data_docs"`.)"""
        return self.root / "data" / "validated"

    @property
    def accepted(self) -> Path:
        """`<profile>.json`: the distributions that were accepted last, in git."""
        return self.root / "accepted"

    def prepared(self, arm: Arm) -> Path:
        """`train/epoch-000.arrow`, ..., `heldout.arrow`, `tokenizer/`, `markers.json`, `quarantine.parquet`, `report.json`."""
        return self.root / "data" / "prepared" / arm

    @property
    def base(self) -> Path:
        """The base model as a Hugging Face folder (safetensors)."""
        return self.root / "models" / "base"

    def trained(self, arm: Arm) -> Path:
        """The fine-tuned model as a Hugging Face folder, with `taxonomy.yaml` and `tailmark.json` inside."""
        return self.root / "models" / arm

    def training_report(self, arm: Arm) -> Path:
        """`metrics.json` and `curve.csv` of one arm's training."""
        return self.root / "reports" / "train" / arm

    @property
    def evaluated(self) -> Path:
        """`examples.parquet`; from it `metrics.json`, `lifts.json`, `benchmarks.json`, `plots/*.csv`, `report.html`."""
        return self.root / "reports" / "evaluate"

    @property
    def registered(self) -> Path:
        """`result.json`: name, version and alias in the registry."""
        return self.root / "reports" / "register"

    @property
    def state(self) -> Path:
        """What is not an output: scratch, provenance, the local MLflow and Prefect stores. Ignored by git and DVC."""
        return self.root / ".tailmark"
