"""The stages as DVC knows them: what needs what, and what has changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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
        nodes = {node.addressing: node for node in graph if isinstance(node, PipelineStage)}
        unknown = sorted(set(targets) - nodes.keys())
        if unknown:
            raise ConfigError(f"There is no stage '{unknown[0]}'.", where=str(root / "dvc.yaml"), fix=f"use one of: {', '.join(nodes)}")
        needs = {name: frozenset(other.addressing for other in graph.successors(node)) for name, node in nodes.items()}
        return [_stage(nodes[name], needs[name]) for name in _order(needs, targets or nodes)]


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
    return Stage(node.addressing, node.desc or str(node.cmd), needs, outs, metrics)


def unchanged(root: Path, stages: Iterable[Stage]) -> set[str]:
    """Names of the stages that have nothing to do: neither they nor anything before them has changed."""
    same: set[str] = set()
    with _open(root) as repo:
        for stage in stages:
            if stage.needs <= same and not repo.status(targets=[stage.name]):
                same.add(stage.name)
    return same


@contextmanager
def _open(root: Path) -> Iterator[Repo]:
    try:
        with Repo(str(root)) as repo:
            yield repo
    except DvcException as error:
        raise ConfigError(f"DVC cannot read the stages: {error}", where=str(root), fix="`dvc status` in that folder says more") from None
