"""Who computes the blocks: threads of this process, other processes, or a cluster.

Every runner takes tasks one by one, has a bounded number of them in hand, and yields (task,
results) as they end, in any order.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from typing import Any, Protocol

from reduced_dynamics.sweeping.work import Stopped, Task, compute

Outcome = tuple[Task, dict[str, Any]]
#: Seconds between two looks at the keyboard while waiting.
PATIENCE = 0.2


def processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Threads:
    """Threads of this process: the compiled integrators let go of Python's lock.

    They are daemons: a process that is told to end does not wait for a trajectory.
    """

    def __init__(self, count: int):
        self.count = count

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_) -> None:
        pass

    def run(self, tasks: Iterator[Task], total: int) -> Iterator[Outcome]:
        """Compute `total` tasks, one after the other on all threads if there are few of them."""
        inner = max(1, self.count // max(1, min(total, self.count)))
        waiting: queue.Queue[Task | None] = queue.Queue()
        ended: queue.Queue[tuple[Task, Any]] = queue.Queue()
        stop = threading.Event()

        def work() -> None:
            while (task := waiting.get()) is not None:
                try:
                    ended.put((task, compute(task, inner, stop.is_set)))
                except Stopped:
                    return
                except BaseException as error:
                    ended.put((task, error))

        count = min(self.count, max(total, 1))
        for _ in range(count):
            threading.Thread(target=work, daemon=True).start()
        in_hand = 0
        try:
            for task in tasks:
                waiting.put(task)
                in_hand += 1
                if in_hand > count:  # one is waiting, so that no thread does
                    yield _result(ended)
                    in_hand -= 1
            for _ in range(in_hand):
                yield _result(ended)
        finally:
            stop.set()
            while not waiting.empty():
                waiting.get_nowait()
            for _ in range(count):
                waiting.put(None)


def _result(ended: queue.Queue) -> Outcome:
    while True:
        try:
            task, result = ended.get(timeout=PATIENCE)
        except queue.Empty:
            continue
        if isinstance(result, BaseException):
            raise result
        return task, result


class Runner(Protocol):
    """Who computes; entered before anything is made, so that what cannot be reached is refused."""

    def __enter__(self) -> Runner: ...

    def __exit__(self, *_) -> None: ...

    def run(self, tasks: Iterator[Task], total: int) -> Iterator[Outcome]:
        """Compute `total` tasks; yields each with its results as it ends."""


def chosen(
    threads: int | None, workers: int | None, scheduler: str | None, homes: tuple[str, ...]
) -> Runner:
    """What is asked for: a cluster, processes, or else threads; see `Settings.homes`."""
    if scheduler is not None or workers is not None:
        from reduced_dynamics.sweeping.cluster import Cluster

        return Cluster(workers, scheduler, homes)
    return Threads(threads or processors())
