"""Sweeps on dask.distributed: the same results, workers that die, schedulers that are not there."""

import asyncio
import filecmp
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from reduced_dynamics.core.errors import InputError
from reduced_dynamics.families.musat.system import MUSAT3
from reduced_dynamics.sweeping import cluster
from reduced_dynamics.sweeping.run import perform, planned

ROOT = Path(__file__).resolve().parents[2]
SIMULATE = [sys.executable, "-W", "error", str(ROOT / "simulate.py")]
SWEEP = ["sweep", "musat3", "--random", "N=8:24:log", "--points", "1200", "--t-end", "20*N**2",
         "--block", "50"]  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def same(one, other):
    found = [{p.relative_to(d) for p in Path(d).rglob("*") if p.is_file()} for d in (one, other)]
    return found[0] == found[1] and all(
        filecmp.cmp(Path(one) / name, Path(other) / name, shallow=False) for name in found[0]
    )


def test_a_killed_worker_changes_nothing():
    command = [*SIMULATE, *SWEEP, "--workers", "2", "--out", "a.zarr"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    folder, deadline = Path("a.zarr/status/c"), time.monotonic() + 60
    while not folder.is_dir() or not any(name.isdigit() for name in os.listdir(folder)):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = psutil.Process(running.pid).children(recursive=True)
    workers = [c for c in children if any("spawn_main" in word for word in c.cmdline())]
    assert len(workers) == 2
    # Stopped first: it dies while it has work, however fast it is.
    workers[0].send_signal(signal.SIGSTOP)
    assert len(os.listdir(folder)) < 24
    workers[0].kill()
    out, err = running.communicate(timeout=100)
    assert running.returncode == 0, err
    assert "1200 complete" in out
    assert "Traceback" not in err
    perform(
        planned(MUSAT3, random={"N": "8:24:log"}, points=1200, t_end="20*N**2", block=50),
        Path("b.zarr"),
    )
    assert same("a.zarr", "b.zarr")


def test_an_unreachable_scheduler_is_refused_and_nothing_is_made(monkeypatch):
    monkeypatch.setattr(cluster, "TIMEOUT", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # nobody listens there
        plan = planned(MUSAT3, grid={"N": "8,9"}, t_end=1.0)
        for address, message in (
            (f"tcp://127.0.0.1:{free.getsockname()[1]}", "no dask scheduler answers at"),
            ("nonsense://x", "is no address of a dask scheduler"),
            ("no address", "is no address of a dask scheduler"),
        ):
            with pytest.raises(InputError, match=message) as raised:
                perform(plan, Path("a.zarr"), scheduler=address)
            assert "\n" not in str(raised.value)
    assert os.listdir() == []


NO_ANSWER = "no scheduler's answer within 1 s"


def silent(connection):
    """Something that accepts connections, and never says a word."""


def speaks_http(connection):
    connection.recv(1 << 16)
    connection.sendall(b"HTTP/1.0 400 Bad request syntax\r\nServer: none\r\n\r\n" + b"." * 4096)
    connection.close()


@pytest.mark.parametrize(
    ("scheme", "answer", "reason"),
    [
        ("", silent, NO_ANSWER),
        ("ws://", silent, NO_ANSWER),
        # Dask tries again until the time is over, and that may be in the middle of a try.
        ("", speaks_http, f"{NO_ANSWER}|{cluster.OTHER}"),
        ("ws://", speaks_http, f"{NO_ANSWER}|{cluster.OTHER}"),
        ("tls://", speaks_http, "TLS needs certificates"),
        ("wss://", speaks_http, f"{NO_ANSWER}|{cluster.OTHER}"),
    ],
)
def test_a_port_where_no_scheduler_answers(monkeypatch, capfd, scheme, answer, reason):
    monkeypatch.setattr(cluster, "TIMEOUT", 1)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        accepted = []

        def serve():
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    accepted.append(connection)
                    with suppress(OSError):
                        answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        address = f"{scheme}127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(InputError, match=f"no dask scheduler answers at .*({reason})") as error:
            perform(planned(MUSAT3, grid={"N": "8,9"}, t_end=1.0), Path("a.zarr"),
                    scheduler=address)  # fmt: skip
        with warnings.catch_warnings():
            # Tornado forgets a websocket that is given up before it is one; its socket ends here.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        listening.shutdown(socket.SHUT_RDWR)
        for connection in accepted:
            connection.close()
    assert "\n" not in str(error.value) and "GiB" not in str(error.value)
    assert capfd.readouterr() == ("", "")
    assert os.listdir() == []


def test_a_worker_is_no_scheduler(monkeypatch):
    async def identity(*_, **__):
        return {"type": "Worker", "id": "a"}

    async def connect(*_, **__):
        return SimpleNamespace(abort=lambda: None)

    monkeypatch.setattr("distributed.core.connect", connect)
    monkeypatch.setattr("distributed.core.send_recv", identity)
    assert cluster._why_not("tcp://127.0.0.1:1") == cluster.OTHER


def test_a_running_scheduler_computes_even_from_a_notebook():
    """A notebook's cells run within an event loop."""
    from distributed import LocalCluster

    plan = planned(MUSAT3, grid={"N": "8,9"}, t_end=1.0)

    async def cell(address):
        perform(plan, Path("a.zarr"), scheduler=address)

    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp://",
        dashboard_address=None, scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
    ) as running:  # fmt: skip
        asyncio.run(cell(running.scheduler_address))
    perform(plan, Path("b.zarr"))
    assert same("a.zarr", "b.zarr")


def test_other_versions_on_workers_are_refused():
    client = SimpleNamespace(nthreads=lambda: {"a": 1}, run=lambda f, homes: {"tcp://a": "other"})
    with pytest.raises(InputError, match=r"the worker tcp://a derives other equations"):
        cluster._same_everywhere(client, ())

    def absent(*_):
        raise ModuleNotFoundError("No module named 'reduced_dynamics'")

    with pytest.raises(InputError, match="cannot use this package"):
        cluster._same_everywhere(SimpleNamespace(nthreads=client.nthreads, run=absent), ())
