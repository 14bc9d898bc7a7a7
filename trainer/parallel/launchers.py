"""What torchrun, Open MPI and Slurm tell a process about its place in a run. Needs no torch."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tracker.errors import DataError


@dataclass(frozen=True, slots=True)
class Launch:
    """What a launcher told this process.

    rank: 0..size-1 in the whole run; local_rank: 0..local_size-1 on this node. address, port: where process 0 listens.
    by: who started the processes.
    """

    rank: int
    local_rank: int
    local_size: int
    size: int
    address: str
    port: int
    by: Literal["torchrun", "Open MPI", "Slurm"]

    def __post_init__(self) -> None:
        whole = 0 <= self.rank < self.size and 0 <= self.local_rank < self.local_size <= self.size
        if not whole or not self.address or not 0 < self.port < 65536:
            raise DataError(
                f"the variables that {self.by} set do not fit together: process {self.rank} of {self.size}, "
                f"{self.local_rank} of {self.local_size} on this node, address {self.address!r}, port {self.port}; "
                "start all processes by one launcher, from a shell that sets none of its variables itself"
            )


def detect(environ: Mapping[str, str]) -> Launch | None:
    """Who this process is among several: from torchrun's variables, else Open MPI's, else those of a Slurm step.

    None: it is alone. Raises DataError when the variables are incomplete or make no sense.
    """
    if "RANK" in environ or "LOCAL_RANK" in environ:
        return _from_torchrun(environ)
    if "OMPI_COMM_WORLD_RANK" in environ or "OMPI_COMM_WORLD_SIZE" in environ:
        return _from_open_mpi(environ)
    # A batch script has SLURM_PROCID and SLURM_NTASKS too, and is one process all the same; so is an interactive shell.
    # Their steps have no id or one of the reserved ones at the end of 32 bits.
    if "SLURM_STEP_ID" in environ and "SLURM_PROCID" in environ and "SLURM_STEP_NUM_TASKS" in environ:
        step, tasks = (_number(environ, name, "Slurm") for name in ("SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"))
        return _from_slurm(environ, tasks) if tasks > 1 and step < 0xFFFFFFF0 else None
    if environ.get("WORLD_SIZE", "1") != "1":
        raise DataError("WORLD_SIZE is set but RANK is not: start the processes by torchrun, or unset WORLD_SIZE")
    return None


def _number(environ: Mapping[str, str], name: str, by: str) -> int:
    text = environ.get(name)
    if text is None:
        raise DataError(f"{by} should have set {name}, which is missing: start the processes by one launcher")
    if not re.fullmatch(r"\d{1,18}", text):
        raise DataError(f"{name}={text!r} should be a whole number: start the processes by one launcher")
    return int(text)


def _from_torchrun(environ: Mapping[str, str]) -> Launch:
    rank, local_rank, size, port = (
        _number(environ, name, "torchrun") for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")
    )
    if "MASTER_ADDR" not in environ:
        raise DataError("torchrun should have set MASTER_ADDR, which is missing: start the processes by one launcher")
    address = environ["MASTER_ADDR"]
    # Who sets these variables by hand, for processes of one machine, may leave this one out.
    alone = "LOCAL_WORLD_SIZE" not in environ and address in ("127.0.0.1", "localhost", "::1")
    local_size = size if alone else _number(environ, "LOCAL_WORLD_SIZE", "torchrun")
    return Launch(rank, local_rank, local_size, size, address, port, "torchrun")


def _from_open_mpi(environ: Mapping[str, str]) -> Launch:
    rank, size, local_rank, local_size = (
        _number(environ, f"OMPI_COMM_WORLD_{name}", "Open MPI") for name in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")
    )
    address = environ.get("MASTER_ADDR") or ("127.0.0.1" if local_size == size else _address_of_mpirun(environ, rank))
    job = environ.get("PMIX_NAMESPACE") or environ.get("OMPI_MCA_ess_base_jobid", "")
    return Launch(rank, local_rank, local_size, size, address, _port(environ, "Open MPI", job), "Open MPI")


def _address_of_mpirun(environ: Mapping[str, str], rank: int) -> str:
    """The node of mpirun, if process 0 runs there and it has one address; Open MPI 4 tells, Open MPI 5 does not.

    Where mpirun runs elsewhere (on a login node), process 0 finds out and ends the run: its own daemon is another.
    """
    uri = environ.get("OMPI_MCA_orte_hnp_uri", "")
    found = re.search(r"\btcp://([\d.]+):\d+", uri)
    if found is None or (rank == 0 and environ.get("OMPI_MCA_orte_local_daemon_uri") != uri):
        raise DataError(
            "Open MPI does not tell the address of process 0: name the first node, as mpirun -x MASTER_ADDR=HOST ..."
        )
    return found.group(1)


def _from_slurm(environ: Mapping[str, str], size: int) -> Launch:
    rank, local_rank, node = (_number(environ, f"SLURM_{name}", "Slurm") for name in ("PROCID", "LOCALID", "NODEID"))
    counts = expand_counts(environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    if node >= len(counts):
        raise DataError("SLURM_STEP_TASKS_PER_NODE does not name this node: start the processes by srun")
    address = environ.get("MASTER_ADDR")
    if not address:
        listed = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", "")
        address = "127.0.0.1" if counts[node] == size else expand_nodes(listed)[0]
    job = f"{environ.get('SLURM_JOB_ID', '')}.{environ['SLURM_STEP_ID']}"
    return Launch(rank, local_rank, counts[node], size, address, _port(environ, "Slurm", job), "Slurm")


def _port(environ: Mapping[str, str], by: str, job: str) -> int:
    """MASTER_PORT, or one that all processes of a job find alike, below those that systems give away on their own."""
    return _number(environ, "MASTER_PORT", by) if "MASTER_PORT" in environ else 20000 + zlib.crc32(job.encode()) % 10000


def expand_nodes(text: str) -> list[str]:
    """Host names of a Slurm node list such as `gpu[003-007,012],cpu1`. Raises DataError when it is none."""
    part = r"(?:[\w.-]|\[\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*\])+"
    names: list[str] = []
    if re.fullmatch(rf"{part}(?:,{part})*", text):
        for entry in re.findall(part, text):
            found = [""]
            for plain, listed in re.findall(r"([^\[\]]+)|\[([\d,-]+)\]", entry):
                choices = [plain] if plain else [number for span in listed.split(",") for number in _numbers(span)]
                found = [start + choice for start in found for choice in choices]
            names += found
    if not names:
        raise DataError(f"the node list {text!r} is not one of Slurm's: set MASTER_ADDR to the name of the first node")
    return names


def _numbers(span: str) -> list[str]:
    """`003-007` to its five numbers, zeros kept."""
    first, _, last = span.partition("-")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last or first) + 1)]


def expand_counts(text: str) -> list[int]:
    """Tasks of each node, from Slurm's `4(x2),3`. Raises DataError when it is no such list."""
    counts: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d{1,6})(?:\(x(\d{1,6})\))?", part)
        if found is None:
            raise DataError(f"SLURM_STEP_TASKS_PER_NODE={text!r} should look like 4(x2),3: start the processes by srun")
        counts += [int(found.group(1))] * int(found.group(2) or 1)
    return counts
