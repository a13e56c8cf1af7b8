"""Blocks on processes of this machine, or on an existing cluster, by dask.distributed.

The scheduler is theirs: it hands out blocks, and computes those of a lost worker again elsewhere.
Results come back to this process, which alone writes the store.
"""

from __future__ import annotations

import itertools
import logging
import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from reduced_dynamics.core.errors import InputError, ReducedDynamicsError
from reduced_dynamics.sweeping.work import Task, compute, derivation

log = logging.getLogger(__name__)

#: Seconds in which a scheduler has to answer.
TIMEOUT = 5
#: Blocks in hand for every thread of the workers: one computed, one waiting.
IN_HAND = 2
#: Deaths of workers that a block survives before it is held to be the cause.
DEATHS = 5

#: What is said of a port where an answer comes, but not a scheduler's.
OTHER = "what answers there is something other than a dask scheduler"

#: PROTOCOL://HOST:PORT, as dask writes it; the protocol may be missing.
_ADDRESS = re.compile(
    r"((tcp|tls|ws|wss|ucx|ucxx)://)?(\[[0-9A-Fa-f:.%\w]+\]|[\w.-]+):\d{1,5}(/\S*)?"
)


class WorkersLost(ReducedDynamicsError):
    """Workers die of a block, or the scheduler is gone (exit 3); what is stored can be resumed."""

    exit_code = 3


class Cluster:
    """Workers of a running scheduler, or `workers` processes of this machine."""

    def __init__(self, workers: int | None, address: str | None, homes: tuple[str, ...]):
        if address is not None and not _ADDRESS.fullmatch(str(address)):
            raise InputError(
                f"'{address}' is no address of a dask scheduler, such as tcp://localhost:8786; "
                "`dask scheduler` prints its own"
            )
        self.workers, self.address, self.homes = workers, address, homes

    def __enter__(self) -> Cluster:
        self._open = ExitStack()
        try:
            self.client = self._open.enter_context(self._client())
            _same_everywhere(self.client, self.homes)
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_) -> None:
        self._open.close()

    def run(self, tasks: Iterator[Task], total: int) -> Iterator:
        """Compute tasks, a bounded number of them at a time; see `runners`."""
        from dask.distributed import as_completed
        from distributed import CancelledError, KilledWorker
        from distributed.comm import CommClosedError

        run = secrets.token_hex(4)  # no two sweeps mistake each other's results

        def submit(task: Task):
            key = f"sweep-{run}-{task.block}"
            return self.client.submit(compute, task, key=key, pure=False)

        known = {submit(task): task for task in itertools.islice(tasks, self._room())}
        ended = as_completed(known, loop=self.client.loop)
        try:
            for future in ended:
                results = future.result()
                task = known.pop(future)
                future.release()
                for following in itertools.islice(tasks, max(0, self._room() - len(known))):
                    another = submit(following)
                    known[another] = following
                    ended.add(another)
                yield task, results
        except KilledWorker as error:
            raise WorkersLost(
                f"several workers died of the same block ({error}); what is stored is kept: "
                "look at their memory, and go on with --resume"
            ) from None
        except (CancelledError, CommClosedError, OSError):
            raise WorkersLost(
                "the scheduler is gone; what is stored is kept, and the same command with "
                "--resume goes on"
            ) from None
        finally:
            for future in known:
                future.release()

    def _room(self) -> int:
        """How many blocks to have in hand."""
        threads = sum(self.client.nthreads().values())
        return IN_HAND * max(threads, self.workers or 1)

    @contextmanager
    def _client(self):
        import dask
        from distributed import Client, LocalCluster

        # What they log of a lost worker or scheduler is dealt with, or said in one sentence, here.
        for name in list(logging.root.manager.loggerDict):
            if name.startswith("distributed"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
        if self.address is None:
            with (
                dask.config.set({"distributed.scheduler.allowed-failures": DEATHS}),
                LocalCluster(
                    n_workers=self.workers, threads_per_worker=1, processes=True,
                    dashboard_address=None, silence_logs=logging.CRITICAL,
                    # Any free port: on its own it takes 8787, and warns where that is taken.
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                ) as cluster,
                Client(cluster, set_as_default=False) as client,
            ):  # fmt: skip
                client.register_plugin(_deaf(), name="deaf")
                yield client
            return
        # A client that finds no scheduler may wait for ever, and complains as it is thrown away;
        # so none is made before one has answered.
        reason = _why_not(self.address)
        if not reason:
            try:
                client = Client(self.address, timeout=TIMEOUT, set_as_default=False)
            except Exception as error:  # the scheduler ended meanwhile, or is of another version
                reason = _said(error)
        if reason:
            raise InputError(
                f"no dask scheduler answers at '{self.address}' ({reason}); "
                "start one with `dask scheduler` and workers with `dask worker ADDRESS`"
            )
        with client:
            yield client


def _why_not(address: str) -> str:
    """Why there is no dask scheduler at `address`, in words; empty where one is."""
    import asyncio

    from distributed import Security
    from distributed.core import connect, send_recv

    async def identity():
        security = Security().get_connection_args("client")
        comm = await connect(address, timeout=TIMEOUT, **security)
        try:
            return await send_recv(comm, op="identity", n_workers=0)
        finally:
            comm.abort()

    async def within_time():
        # What is left over of a connection that fails is nobody's concern.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        # Connecting has its own timeout, which says more; the handshake after it has none.
        return await asyncio.wait_for(identity(), 1.2 * TIMEOUT)

    try:
        with ThreadPoolExecutor(1) as own:  # this thread may have an event loop, as notebooks have
            found = own.submit(lambda: asyncio.run(within_time())).result()
    except Exception as error:  # whatever an answer in another protocol is taken for
        return _said(error)
    return "" if isinstance(found, dict) and "workers" in found else OTHER


def _said(error: BaseException) -> str:
    """Why there was no connection: dask tries for a while, and wraps what was last in the way."""
    import ssl

    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    text = str(error).strip().partition("\n")[0][:80]
    if "ssl_context" in text or "encryption required" in text:
        return "TLS needs certificates, and dask's configuration, distributed.comm.tls, has none"
    if isinstance(error, TimeoutError):
        return f"no scheduler's answer within {TIMEOUT} s"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return text or type(error).__name__
    told = "unknown address scheme" in text or isinstance(error, ImportError | Warning)
    return text if told else OTHER


def _deaf():
    """What lets our own processes pass over Ctrl-C: this process tells them when to end."""
    from distributed import WorkerPlugin

    class Deaf(WorkerPlugin):
        def setup(self, worker) -> None:
            import signal

            signal.signal(signal.SIGINT, signal.SIG_IGN)

    return Deaf()


def _same_everywhere(client, homes: tuple[str, ...]) -> None:
    """Refuse workers that would compute something else."""
    if not client.nthreads():
        log.info("the scheduler has no workers yet; waiting for the first")
        client.wait_for_workers(1)
    try:
        found = client.run(derivation, homes)
    except Exception as error:
        raise InputError(
            f"the workers cannot use this package ({str(error).splitlines()[0][:80]}); install "
            "the same version there"
        ) from None
    own = derivation(homes)
    for address, other in found.items():
        if other != own:
            raise InputError(
                f"the worker {address} derives other equations ({other}) than this process "
                f"({own}): the package or its dependencies differ in version; install "
                "the same on all machines"
            )
