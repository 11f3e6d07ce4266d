"""What the launcher tells the workers, and where both keep the state of an unfinished training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tailmark.config import Config
from tailmark.files import read_json, sha256_file, sha256_json, write_json
from tailmark.layout import Arm, Layout
from tailmark.modelfolder import folder_hashes
from tailmark.taxonomy import load_taxonomy

_PLACEMENT = frozenset({"ranks", "threads", "zero_stage", "offload_optimizer", "launcher", "nodes", "hostfile", "rendezvous"})
_NOT_LEARNING = _PLACEMENT | {"checkpoint_every", "keep_checkpoints", "upload", "timeout_minutes"}
"""Options that change how a training runs and not what it learns: an interrupted one is found again under other values of these."""


@dataclass(frozen=True)
class Job:
    """One training of one arm.

    Attributes:
        config: the whole tree.
        layout: the checkout.
        arm: which arm.
        identity: hashes of what the training learns from: `config`, `data`, `base`, `taxonomy`.
        resume: folder of the verified checkpoint to go on from, relative to `scratch`, or None.
        node: number of this machine; 0 leads.
    """

    config: Config
    layout: Layout
    arm: Arm
    identity: dict[str, str]
    resume: str | None = None
    node: int = 0

    @property
    def world_size(self) -> int:
        """Ranks on all machines."""
        return self.config.train.nodes * self.config.train.ranks

    @cached_property
    def scratch(self) -> Path:
        """The folder of the unfinished training; other inputs have another one."""
        return self.layout.state / "scratch" / f"train-{self.arm}-{sha256_json(self.identity)[:16]}"

    @property
    def checkpoints(self) -> Path:
        """One folder per complete checkpoint, `step-000050`."""
        return self.scratch / "checkpoints"

    @property
    def events(self) -> Path:
        """JSON lines that rank 0 writes and the launcher reads while the training runs."""
        return self.scratch / "events.jsonl"

    @property
    def stop_request(self) -> Path:
        """Its presence asks the workers to finish the step, save and leave."""
        return self.scratch / "stop"

    @property
    def result(self) -> Path:
        """What rank 0 hands back at the end: curve and totals."""
        return self.scratch / "result.json"

    @property
    def log(self) -> Path:
        """Everything the workers of this machine and their libraries print."""
        return self.scratch / f"workers-{self.node}.log"

    def problem(self, rank: int) -> Path:
        """What stopped a rank, if anything did."""
        return self.scratch / f"problem-{rank}.json"

    def write(self) -> Path:
        """Store the job for the workers."""
        path = self.scratch / f"job-{self.node}.json"
        content = {
            "config": self.config.model_dump(mode="json", by_alias=True),
            "root": str(self.layout.root.resolve()),
            "arm": self.arm,
            "identity": self.identity,
            "resume": self.resume,
            "node": self.node,
        }
        write_json(path, content)
        return path


def read_job(path: Path) -> Job:
    """The job that `Job.write` stored."""
    content: dict[str, Any] = read_json(path)
    return Job(
        config=Config.model_validate(content["config"]),
        layout=Layout(Path(content["root"])),
        arm=content["arm"],
        identity=content["identity"],
        resume=content["resume"],
        node=content["node"],
    )


def identify(config: Config, layout: Layout, arm: Arm) -> dict[str, str]:
    """Hashes of everything a training learns from."""
    options = {name: value for name, value in config.train.model_dump(mode="json").items() if name not in _NOT_LEARNING}
    prepared = layout.prepared(arm)
    packs = [*sorted((prepared / "train").glob("epoch-*.arrow")), prepared / "heldout.arrow"]
    return {
        "config": sha256_json([options, config.seed]),
        "data": sha256_json([[path.name, sha256_file(path)] for path in packs]),
        "base": sha256_json(folder_hashes(layout.base)),
        "taxonomy": load_taxonomy(layout.root / config.taxonomy.file).digest,
    }
