"""Processes that train together: who they are, how they meet, agree, fail and end. Real processes, on loopback.

Run as a script by a launcher, this file is one of the processes.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from tracker.errors import DataError
from tracker.network.v2v import V2V, V2VConfig
from trainer.parallel.launch import count_gpus
from trainer.parallel.launchers import Launch, detect, expand_counts, expand_nodes
from trainer.parallel.meeting import common_part
from trainer.parallel.sync_batch_norm import synchronise
from trainer.parallel.world import LOST, Place, SharedError, World, fair_threads, peers_watched

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
SHARES = (5, 3, 0, 4)
"""Samples of each process in the tests of batch normalisation."""


# What each process of a run checks.


def check_agreement(world):
    rank, size = world.rank, world.size
    assert world.main == (rank == 0)
    assert world.maximum([rank, -rank, 0.5]) == [size - 1, 0, 0.5]
    mine = torch.full((2,), float(rank))
    assert world.total(mine).tolist() == [size * (size - 1) / 2] * 2
    assert mine.tolist() == [rank] * 2
    assert world.gather({"rank": rank}) == [{"rank": r} for r in range(size)]
    assert world.share(f"from {rank}") == "from 0"
    assert world.together(lambda: rank) == rank

    def no_file():
        if rank == size - 1:
            Path("/nowhere/at all.h5").read_bytes()

    with pytest.raises(SharedError, match=rf"^process {size - 1}: No such file or directory: /nowhere/at all\.h5$"):
        world.together(no_file)

    def damaged():
        raise DataError(f"damaged in {rank}")

    with pytest.raises(SharedError, match="process 0: damaged in 0"):
        world.together(damaged)
    world.barrier()


def check_batch_norm(world):
    """Against a plain layer on the joined batch, which every process computes for itself."""
    shares = SHARES[: world.size]
    start = sum(shares[: world.rank])
    own = slice(start, start + shares[world.rank])
    numbers = torch.Generator().manual_seed(0)
    features = 3 * torch.randn(sum(shares), 6, 3, 4, 5, generator=numbers) + 10
    target = torch.randn(features.shape, generator=numbers)
    plain = nn.BatchNorm3d(6)
    nn.init.normal_(plain.weight, generator=numbers)
    together = nn.BatchNorm3d(6)
    together.load_state_dict(plain.state_dict())
    together = synchronise(together, world)
    whole, part = features.clone().requires_grad_(), features[own].clone().requires_grad_()
    for _ in range(3):
        expected = plain(whole)
        (expected - target).square().mul(target.sigmoid()).sum().backward()
        found = together(part)
        (found - target[own]).square().mul(target[own].sigmoid()).sum().backward()
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(found, expected[own], **close)
    torch.testing.assert_close(part.grad, whole.grad[own], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(world.total(together.weight.grad), plain.weight.grad, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(world.total(together.bias.grad), plain.bias.grad, rtol=1e-4, atol=1e-2)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(together.state_dict()[name], value, **close)
    together.eval()
    torch.testing.assert_close(together(features), plain.eval()(features), **close)
    # Mixed precision: the statistics of these values would be wrong by far in bfloat16.
    together.train()
    far = features[own] + 1000
    with torch.autocast("cpu", torch.bfloat16):
        narrow = together(far.bfloat16().requires_grad_())
    assert narrow.dtype == torch.bfloat16
    total = world.total(torch.cat([narrow.float().sum((0, 2, 3, 4)), torch.tensor([narrow.numel() / 6])]))
    torch.testing.assert_close(total[:6] / total[6], together.bias.detach(), rtol=0, atol=2e-2)


def check_network(world):
    """A network of several layers, on uneven shares: the plain one's output, and its weights."""
    torch.manual_seed(0)
    config = V2VConfig(input_size=16, joints=2, width=4, front_kernel=3, blocks=1)
    plain, network = V2V(config), V2V(config)
    network.load_state_dict(plain.state_dict())
    network = synchronise(network, world)
    shares = SHARES[: world.size]
    start = sum(shares[: world.rank])
    voxels = torch.rand(sum(shares), 16, 16, 16)
    expected, _ = plain(voxels)
    found, _ = network(voxels[start : start + shares[world.rank]])
    torch.testing.assert_close(found, expected[start : start + shares[world.rank]], rtol=1e-3, atol=1e-4)
    found.sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    V2V(config).load_state_dict(network.state_dict())


def wait_for_ever(world):
    """The last process dies without a word; the others must find out."""
    world.barrier()
    if world.rank == world.size - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        world.barrier()


def process(mode):
    with World.join(detect(os.environ), CPU, 60.0) as world:
        check_agreement(world)
        if mode == "die":
            wait_for_ever(world)
        if mode == "all":
            check_batch_norm(world)
            check_network(world)
        # One write: the launchers mix what the processes say.
        sys.stdout.write(f"fine {world.rank} of {world.size}\n")


# Launchers.


def clean(**more):
    """The environment without what other launchers may have set."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_", "SLURM_", "MASTER_"))}
    return {**plain, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more}


def free_port():
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]


def run(words, **more):
    return subprocess.run(words, env=clean(**more), capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("size", [2, 4])
def test_torchrun(size):
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    done = run([*words, "--nproc-per-node", str(size), __file__, "all"])
    assert done.returncode == 0, done.stderr
    assert all(f"fine {rank} of {size}" in done.stdout for rank in range(size)), done.stdout


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="Open MPI's mpirun is not installed")
def test_mpirun():
    words = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2", sys.executable, __file__, "agree"]
    done = run(words)
    assert done.returncode == 0, done.stderr
    assert "fine 0 of 2" in done.stdout
    assert "fine 1 of 2" in done.stdout


def slurm(rank, size=2, **more):
    return {
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_NODEID": "0",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": str(size),
        "SLURM_NTASKS": str(size),
        "SLURM_STEP_TASKS_PER_NODE": str(size),
        "SLURM_STEP_NODELIST": "node7",
        "SLURM_JOB_ID": "4711",
        **more,
    }


def test_slurm_and_a_process_that_dies():
    port = str(free_port())
    both = [
        subprocess.Popen(
            [sys.executable, __file__, "die"],
            env=clean(**slurm(rank, MASTER_PORT=port)),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        both[1].wait(90)
        died = time.monotonic()
        words = both[0].communicate(timeout=30)[1]
        assert time.monotonic() - died < 15
    finally:
        for one in both:
            one.kill()
    assert both[1].returncode == -signal.SIGKILL
    assert both[0].returncode == 1
    assert words.strip() == f"error: {LOST}"


WORKER = """
import os, signal, sys, time
mode, rank = sys.argv[1], os.environ["RANK"]
def save(*_):
    time.sleep(1)
    open(f"saved{rank}", "a").write("x")
    sys.exit(0)
signal.signal(signal.SIGINT, save)
open(f"{mode}{rank}", "w").write(os.environ["LOCAL_RANK"] + os.environ["WORLD_SIZE"] + os.environ["MASTER_ADDR"])
if mode == "fail" and rank == "1":
    sys.exit("error: process 1 has no data")
if mode == "kill" and rank == "1":
    os.kill(os.getpid(), signal.SIGKILL)
if mode != "good":
    time.sleep(60)
"""
"""What `launch` starts here, instead of a training: it answers an interrupt after a second, as a checkpoint would."""

LAUNCHES = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from tracker.errors import DataError
from trainer.parallel.launch import launch
found = [launch(2, ["good"]), launch(2, ["fail"])]
try:
    launch(2, ["kill"])
except DataError as error:
    found.append(str(error))
print(json.dumps(found), flush=True)
sys.exit(launch(2, ["stop"]))
"""


def test_launch(tmp_path):
    """All end well; one fails; one is killed; Ctrl-C reaches each once and leaves time for a checkpoint."""
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "__init__.py").touch()  # without it, an installed trainer would come first
    (tmp_path / "trainer" / "__main__.py").write_text(WORKER)
    environ = clean()
    del environ["PYTHONPATH"]
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHES],
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        found = json.loads(launcher.stdout.readline())
        until = time.monotonic() + 60
        while not ((tmp_path / "stop0").exists() and (tmp_path / "stop1").exists()) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.3)
        os.killpg(launcher.pid, signal.SIGINT)
        words = launcher.communicate(timeout=60)[1]
    finally:
        launcher.kill()
    assert found[:2] == [0, 1]
    assert found[2].startswith("process 1 was ended by SIGKILL")
    assert launcher.returncode == 130
    assert words == "error: process 1 has no data\n"
    assert (tmp_path / "saved0").read_text() == (tmp_path / "saved1").read_text() == "x"
    assert (tmp_path / "good1").read_text() == "12127.0.0.1"


ORPHAN = f"""
import multiprocessing, os, signal, sys, time
sys.path.insert(0, {str(ROOT)!r})
from trainer.interrupts import end_with_parent

def work():
    while os.getppid() == int(sys.argv[1]):
        time.sleep(0.05)
    print("orphan", flush=True)
    end_with_parent()
    time.sleep(120)
    print("still there", flush=True)

if __name__ == "__main__":
    sys.argv[1:] = [str(os.getpid())]
    multiprocessing.get_context("spawn").Process(target=work).start()
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)
"""
"""A process whose parent is killed while it starts."""


def test_an_orphan_ends(tmp_path):
    (tmp_path / "orphan.py").write_text(ORPHAN)
    began = time.monotonic()
    done = run([sys.executable, str(tmp_path / "orphan.py")])  # until nobody holds its output
    assert done.stdout == "orphan\n", done.stderr
    assert time.monotonic() - began < 60


# In this process.


def test_a_lone_process():
    with World.join(None, CPU) as world:
        check_agreement_alone = (
            world.maximum([1, 2.5]),
            world.gather("a"),
            world.share("b"),
            world.together(lambda: 3),
        )
        assert check_agreement_alone == ([1, 2.5], ["a"], "b", 3)
        assert world.total(torch.ones(2)).tolist() == [1, 1]
        assert world.main
        layer = nn.BatchNorm3d(2)
        assert synchronise(layer, world) is layer
        with pytest.raises(FileNotFoundError):
            world.together(Path("/nowhere").read_bytes)


def launched(rank, port, address="127.0.0.1"):
    return Launch(rank, rank, 2, 2, address, port, "torchrun")


def test_processes_that_do_not_come():
    port = free_port()
    with pytest.raises(DataError, match=rf"did not meet at 127.0.0.1:{port} within 1 s \(1 of 2 processes\)"):
        World.join(launched(0, port), CPU, 1.0)
    with pytest.raises(DataError, match="process 0 is not there"):
        World.join(launched(1, port), CPU, 1.0)
    with pytest.raises(DataError, match=r"did not meet at no\.such\.host\.invalid"):
        World.join(launched(1, port, "no.such.host.invalid"), CPU, 1.0)


def test_a_port_in_use_and_a_stranger_who_listens():
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        port = door.getsockname()[1]
        with pytest.raises(DataError, match="in use on this node: set MASTER_PORT"):
            World.join(launched(0, port), CPU, 1.0)
        began = time.monotonic()
        with pytest.raises(DataError, match="did not meet"):
            World.join(launched(1, port), CPU, 1.0)
        assert time.monotonic() - began < 20


def test_processes_that_are_started_again_meet_in_the_same_store():
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    stores = [
        dist.TCPStore("127.0.0.1", server.port, timeout=timedelta(seconds=20), wait_for_workers=False) for _ in range(3)
    ]

    def come(rank, seconds=20.0, delay=0.0):
        time.sleep(delay)
        part = common_part(stores[rank], Launch(rank, 0, 1, 3, "127.0.0.1", 1, "torchrun"), time.monotonic() + seconds)
        return part.add("here", 1)

    with ThreadPoolExecutor(3) as pool:
        for first in range(3):  # whoever comes first, and whatever the rounds before have left
            coming = [pool.submit(come, rank, delay=0.1 * ((rank - first) % 3)) for rank in range(3)]
            assert sorted(one.result() for one in coming) == [1, 2, 3]
            # These end before all have come.
            for rank in range(2):
                with pytest.raises(OSError):  # noqa: PT011
                    come(rank, 0.1)


def test_a_run_is_known_to_have_begun_when_it_is_started_again(monkeypatch):
    kept = dist.PrefixStore("trainer", dist.HashStore())
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")  # of starts that were refused, say
    world = World(0, 0, 1, CPU, kept)
    assert not world.restarted()
    world.begin()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")  # another node failed
    assert World(0, 0, 1, CPU, kept).restarted()
    assert not World(0, 0, 1, CPU).restarted()


def test_errors_of_other_kinds_are_left_alone():
    with pytest.raises(RuntimeError, match="shapes"), peers_watched():
        raise RuntimeError("shapes do not fit")
    with pytest.raises(DataError, match="--resume"), peers_watched():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:4")


def test_cores_are_shared_fairly():
    def place(node, *cores):
        return Place(node, frozenset(cores), "")

    assert [fair_threads([place("a", *range(8))] * 3, rank) for rank in range(3)] == [2, 2, 2]
    bound = [place("a", 0, 1), place("a", 2, 3), place("b", 0, 1)]
    assert [fair_threads(bound, rank) for rank in range(3)] == [2, 2, 2]
    assert fair_threads([place("a", 0)] * 4, 0) == 1


def test_gpus_that_are_not_there():
    there = torch.cuda.device_count()
    with pytest.raises(DataError, match=f"torch finds {there}"):
        count_gpus(str(there + 1))
    for wrong in ("0", "-1", "two", ""):
        with pytest.raises(DataError, match="number of GPUs or `all`"):
            count_gpus(wrong)


TORCHRUN = {
    "RANK": "3",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29400",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "0",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "PMIX_NAMESPACE": "842072065",
}
TWO_NODES = {**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
URI = "842072064.0;tcp://10.1.0.7:59697;tcp6://[fd00::2]:41203"


def without(environ, *names):
    return {k: v for k, v in environ.items() if k not in names}


def test_launchers_are_told_apart():
    assert detect({}) is None
    assert detect({"MASTER_ADDR": "a", "MASTER_PORT": "1", "WORLD_SIZE": "1"}) is None
    assert detect(TORCHRUN) == Launch(3, 1, 2, 4, "node1", 29400, "torchrun")
    assert detect({**slurm(0), **OPEN_MPI, **TORCHRUN}).by == "torchrun"
    assert detect({**slurm(0), **OPEN_MPI}).by == "Open MPI"
    assert detect(slurm(1)).by == "Slurm"
    by_hand = without({**TORCHRUN, "MASTER_ADDR": "127.0.0.1"}, "LOCAL_WORLD_SIZE")
    assert detect(by_hand).local_size == 4


def test_open_mpi():
    one = detect(OPEN_MPI)
    assert (one.rank, one.size, one.address) == (0, 4, "127.0.0.1")
    assert 20000 <= one.port < 30000
    assert detect({**OPEN_MPI, "OMPI_COMM_WORLD_RANK": "2"}).port == one.port
    assert detect({**OPEN_MPI, "PMIX_NAMESPACE": "842072066"}).port != one.port
    assert detect({**TWO_NODES, "MASTER_ADDR": "gpu1", "MASTER_PORT": "1234"}).port == 1234
    # Process 0 beside mpirun: its address will do for the others.
    told = {**TWO_NODES, "OMPI_MCA_orte_hnp_uri": URI, "OMPI_MCA_orte_local_daemon_uri": URI}
    assert detect(told).address == "10.1.0.7"
    there = {**told, "OMPI_COMM_WORLD_RANK": "2", "OMPI_MCA_orte_local_daemon_uri": "842072064.1;tcp://10.1.0.8:5"}
    assert detect(there).address == "10.1.0.7"
    several = URI.replace("10.1.0.7", "10.1.0.7,172.17.0.1")
    for unsure in (
        TWO_NODES,
        {**there, "OMPI_COMM_WORLD_RANK": "0"},
        {**told, "OMPI_MCA_orte_hnp_uri": several, "OMPI_MCA_orte_local_daemon_uri": several},
    ):
        with pytest.raises(DataError, match="mpirun -x MASTER_ADDR=HOST"):
            detect(unsure)


def test_slurm():
    assert detect(slurm(1)).address == "127.0.0.1"
    nodes = {"SLURM_STEP_NODELIST": "gpu[003-004],cpu1", "SLURM_STEP_TASKS_PER_NODE": "3(x2),2", "SLURM_NODEID": "1"}
    found = detect(slurm(4, 8, **nodes, SLURM_LOCALID="1"))
    assert found == Launch(4, 1, 3, 8, "gpu003", found.port, "Slurm")
    assert found.port == detect(slurm(0, 8, **nodes, SLURM_LOCALID="0")).port
    # A batch script, an interactive shell and a step of one task are one process each.
    assert detect(without(slurm(0, 8), "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS")) is None
    assert detect(slurm(0, 8, SLURM_STEP_ID=str(0xFFFFFFFB))) is None
    assert detect(slurm(0, 1)) is None


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        (without(TORCHRUN, "WORLD_SIZE"), "WORLD_SIZE, which is missing"),
        (without(TORCHRUN, "LOCAL_WORLD_SIZE"), "LOCAL_WORLD_SIZE, which is missing"),
        (without(TORCHRUN, "MASTER_ADDR"), "MASTER_ADDR, which is missing"),
        ({**TORCHRUN, "RANK": "4"}, "do not fit together: process 4 of 4"),
        ({**TORCHRUN, "RANK": "-1"}, "RANK='-1' should be a whole number"),
        ({**TORCHRUN, "MASTER_PORT": "99999"}, "port 99999"),
        ({**TORCHRUN, "MASTER_ADDR": ""}, "address ''"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is set but RANK is not"),
        ({"OMPI_COMM_WORLD_RANK": "0"}, "OMPI_COMM_WORLD_SIZE, which is missing"),
        ({**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_RANK": "9"}, "do not fit together"),
        (slurm(0, SLURM_STEP_TASKS_PER_NODE="2(x"), "should look like"),
        (slurm(0, SLURM_NODEID="3"), "does not name this node"),
        (slurm(0, 4, SLURM_STEP_TASKS_PER_NODE="2(x2)", SLURM_STEP_NODELIST="gpu[1-"), "node list"),
        (slurm("x"), "SLURM_PROCID='x'"),
    ],
)
def test_nonsense_is_told(environ, words):
    with pytest.raises(DataError) as told:
        detect(environ)
    assert words in str(told.value)


def test_slurm_lists():
    assert expand_nodes("a") == ["a"]
    assert expand_nodes("gpu[003-005,012],cpu1") == ["gpu003", "gpu004", "gpu005", "gpu012", "cpu1"]
    assert expand_nodes("r[1-2]n[08-09].lab") == ["r1n08.lab", "r1n09.lab", "r2n08.lab", "r2n09.lab"]
    for wrong in ("", "a[1", "a]1[", "a[x]", "a[1-]", "a[3-1]", "a b", ","):
        with pytest.raises(DataError, match="node list"):
            expand_nodes(wrong)
    assert expand_counts("4(x2),3") == [4, 4, 3]
    for wrong in ("", "4(x2", "x", "4,,3"):
        with pytest.raises(DataError, match="should look like"):
            expand_counts(wrong)


if __name__ == "__main__":
    try:
        process(sys.argv[1])
    except DataError as error:
        sys.exit(f"error: {error}")
