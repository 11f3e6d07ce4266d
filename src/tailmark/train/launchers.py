"""The commands that start the ranks: torchrun or DeepSpeed's launcher, on one machine or several."""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tailmark.config import Train
from tailmark.errors import ConfigError
from tailmark.train.job import Job

NODE_VARIABLES = ("TAILMARK_NODE", "SLURM_NODEID", "JOB_COMPLETION_INDEX")
"""Where a machine finds its number: ours, Slurm's, an indexed Kubernetes job's."""
RENDEZVOUS_VARIABLE = "TAILMARK_RENDEZVOUS"


def node_number(options: Train, environment: Mapping[str, str] = os.environ) -> int:
    """This machine's number, 0 for the one that leads: it writes checkpoints, the model and the MLflow run.

    Raises:
        ConfigError: the machines are started one by one, and nothing says which one this is.
    """
    if options.nodes == 1 or options.hostfile is not None:
        return 0
    name = next((name for name in NODE_VARIABLES if environment.get(name)), None)
    given = environment[name] if name else ""
    if not given.isdigit() or int(given) >= options.nodes:
        raise ConfigError(
            f"The number of this machine is {given}, of {options.nodes}." if name else "Nothing says which of the machines this one is.",
            where=f"environment: {name or NODE_VARIABLES[0]} (train.nodes is {options.nodes})",
            fix=f"set {NODE_VARIABLES[0]} to 0 on the first machine, 1 on the next, up to {options.nodes - 1}",
        )
    return int(given)


def launch_command(job: Job, worker: Sequence[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """The command that runs `python -m <worker>` as every rank of this machine, or of all machines where a hostfile is given.

    Raises:
        ConfigError: the machines' meeting point is not given, or the hostfile is missing or too short.
    """
    options = job.config.train
    if options.hostfile is not None:
        return _by_hostfile(job, worker, job.layout.root / options.hostfile)
    meeting = _meeting(options, environment) if options.nodes > 1 else None
    if options.launcher == "deepspeed":
        return _deepspeed(job, worker, meeting or ("127.0.0.1", _free_port()))
    return _torchrun(job, worker, meeting)


def _torchrun(job: Job, worker: Sequence[str], meeting: tuple[str, int] | None) -> list[str]:
    options = job.config.train
    # Without a folder named, torchrun leaves one in the system's temporary folder at each start.
    command = [sys.executable, "-m", "torch.distributed.run", "--log-dir", str(job.scratch / f"torchrun-{job.node}")]
    command += ["--nproc-per-node", str(options.ranks)]
    if meeting is None:
        command.append("--standalone")
    else:
        host, port = meeting
        command += ["--nnodes", str(options.nodes), "--node-rank", str(job.node), "--master-addr", host, "--master-port", str(port)]
    return [*command, "-m", *worker]


def _deepspeed(job: Job, worker: Sequence[str], meeting: tuple[str, int]) -> list[str]:
    """What `deepspeed` itself starts on each machine; started by itself it would outlive us when we are killed."""
    options, (host, port) = job.config.train, meeting
    slots = {f"node-{number}": list(range(options.ranks)) for number in range(options.nodes)}
    world = base64.urlsafe_b64encode(json.dumps(slots).encode()).decode()
    command = [sys.executable, "-m", "deepspeed.launcher.launch", f"--world_info={world}", f"--node_rank={job.node}"]
    return [*command, f"--master_addr={host}", f"--master_port={port}", "--no_local_rank", "--module", *worker]


def _by_hostfile(job: Job, worker: Sequence[str], hostfile: Path) -> list[str]:
    options = job.config.train
    hosts = _hosts(hostfile)
    if len(hosts) < options.nodes:
        raise ConfigError(
            f"The hostfile names {len(hosts)} machine(s), train.nodes asks for {options.nodes}.",
            where=str(hostfile),
            fix="add a line `NAME slots=N` for each machine, or lower train.nodes",
        )
    command = [sys.executable, "-m", "deepspeed.launcher.runner", "--hostfile", str(hostfile), "--force_multi"]
    command += ["--num_nodes", str(options.nodes), "--num_accelerators", str(options.ranks)]
    if options.rendezvous is not None:
        host, port = _split(options.rendezvous)
        command += ["--master_addr", host, "--master_port", str(port)]
    return [*command, "--no_local_rank", "--module", *worker]


def _hosts(hostfile: Path) -> list[str]:
    try:
        lines = hostfile.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise ConfigError(
            "There is no such hostfile.", where=f"train.hostfile: {hostfile}", fix="give its path from the checkout's root"
        ) from None
    return [line.split()[0] for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _meeting(options: Train, environment: Mapping[str, str]) -> tuple[str, int]:
    given = options.rendezvous or environment.get(RENDEZVOUS_VARIABLE, "")
    host, port = _split(given)
    if not host or not port:
        raise ConfigError(
            "The machines do not know where to meet." if not given else f"The meeting point '{given}' is not HOST:PORT.",
            where=f"train.rendezvous, or the environment variable {RENDEZVOUS_VARIABLE}",
            fix="set one of them to HOST:PORT of the first machine, e.g. node-0.cluster:29500, the same on every machine",
        )
    return host, port


def _split(meeting: str) -> tuple[str, int]:
    host, _, port = meeting.rpartition(":")
    return host, int(port) if port.isdigit() else 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
