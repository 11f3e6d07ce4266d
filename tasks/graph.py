"""The stages as DVC knows them: what needs what, and what has changed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import PipelineStage

from tailmark.errors import ConfigError


@dataclass(frozen=True)
class Stage:
    """One stage of `dvc.yaml`.

    Attributes:
        name: as DVC addresses it, e.g. `train@marked`.
        description: its `desc`, or its command.
        needs: names of the stages whose outputs it reads.
        outs: paths of its outputs, relative to the checkout.
        metrics: those of them that are metrics files.
    """

    name: str
    description: str
    needs: frozenset[str]
    outs: tuple[str, ...]
    metrics: tuple[str, ...]


def read_graph(root: Path, targets: Collection[str] = ()) -> list[Stage]:
    """The stages in an order in which each comes after what it needs; with targets, only those and what they need.

    Raises:
        ConfigError: `dvc.yaml` cannot be read, or there is no such target.
    """
    with _open(root) as repo:
        graph = repo.index.graph
        nodes = {_name(node): node for node in graph if isinstance(node, PipelineStage)}
        unknown = sorted(set(targets) - nodes.keys())
        if unknown:
            raise ConfigError(f"There is no stage '{unknown[0]}'.", where=str(root / "dvc.yaml"), fix=f"use one of: {', '.join(nodes)}")
        needs = {name: frozenset(_name(other) for other in graph.successors(node)) for name, node in nodes.items()}
        return [_stage(nodes[name], needs[name]) for name in _order(needs, targets or nodes)]


def _name(node: Any) -> str:
    """As DVC calls it in the root of the checkout; its own `addressing` is relative to where this process stands."""
    if not isinstance(node, PipelineStage):
        return str(node.path_in_repo)
    return str(node.name) if node.path_in_repo == "dvc.yaml" else f"{node.path_in_repo}:{node.name}"


def address(root: Path, name: str) -> str:
    """A stage's name as DVC takes it in this process, wherever it stands."""
    path, found, stage = name.rpartition(":")
    return f"{os.path.relpath(root / (path if found else 'dvc.yaml'))}:{stage}"


def _order(needs: dict[str, frozenset[str]], targets: Iterable[str]) -> list[str]:
    """A topological order that keeps to the file's order where it can, so that the way of the data can be followed."""
    graph = networkx.DiGraph((name, other) for name, others in needs.items() for other in others)
    graph.add_nodes_from(needs)
    wanted = set(targets).union(*(networkx.descendants(graph, name) for name in targets))
    place = {name: number for number, name in enumerate(needs)}
    return [name for name in networkx.lexicographical_topological_sort(graph.reverse(), key=place.__getitem__) if name in wanted]


def _stage(node: PipelineStage, needs: frozenset[str]) -> Stage:
    outs = tuple(out.def_path for out in node.outs)
    metrics = tuple(out.def_path for out in node.outs if out.metric)
    return Stage(_name(node), node.desc or str(node.cmd), needs, outs, metrics)


def unchanged(root: Path, stages: Iterable[Stage], forced: Collection[str] = ()) -> set[str]:
    """Names of the stages that have nothing to do: neither they nor anything before them has changed or is forced."""
    same: set[str] = set()
    with _open(root) as repo:
        for stage in stages:
            if stage.name not in forced and stage.needs <= same and not repo.status(targets=[address(root, stage.name)]):
                same.add(stage.name)
    return same


def cache_folder(root: Path) -> str:
    """Where the checkout's DVC cache lies."""
    with _open(root) as repo:
        return str(repo.cache.local_cache_dir)


def dvc_settings(root: Path) -> dict[str, Any]:
    """The checkout's DVC settings that git does not hold (`.dvc/config.local`): remotes, credentials; paths are absolute."""
    with _open(root) as repo:
        return dict(repo.config.read("local"))


def default_remote(root: Path) -> str | None:
    """The name of the DVC remote that `dvc push` would use; None where there is none."""
    with _open(root) as repo:
        name = repo.config.get("core", {}).get("remote")
        return str(name) if name else None


def cache_path(root: Path, md5: str) -> Path:
    """Where the checkout's cache keeps what has this hash."""
    with _open(root) as repo:
        return Path(repo.cache.local.oid_to_path(md5))


@contextmanager
def _open(root: Path) -> Iterator[Repo]:
    try:
        with Repo(str(root)) as repo:
            yield repo
    except DvcException as error:
        raise ConfigError(f"DVC cannot read the stages: {error}", where=str(root), fix="`dvc status` in that folder says more") from None
