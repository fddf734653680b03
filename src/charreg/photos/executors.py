"""Where photographs are worked on: in this process, in processes of this machine, or on a dask cluster."""

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from charreg.core.errors import CharregError

CHUNK_SECONDS = 0.1  # of work sent at once: sending costs about a millisecond, a kill loses what is under way
LARGEST_CHUNK = 64
T = TypeVar("T")
R = TypeVar("R")
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Workers:
    """A running executor, how many chunks may be under way, and what it raises when it has lost them for good."""

    pool: Executor
    window: int
    lost: tuple[type[Exception], ...]
    because: str


def map_unordered(task: Callable[[T], R], items: Iterable[T], executor: str) -> Iterator[R]:
    """Results as they are finished, in any order; only so many are under way that memory stays constant.

    Cheap items are sent to workers in chunks. executor: `serial`, `processes:N` or `dask:tcp://host:port`.
    Raises CharregError when workers or the cluster are lost.
    """
    if executor == "serial":
        yield from map(task, items)
        return
    with open_executor(executor) as workers:
        todo, size = iter(items), 1
        waiting: set[Future[tuple[list[R], float]]] = set()
        try:
            while True:
                while len(waiting) < workers.window and (chunk := list(islice(todo, size))):
                    waiting.add(workers.pool.submit(run_chunk, task, chunk))
                if not waiting:
                    return
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    results, seconds = future.result()
                    size = min(max(1, int(CHUNK_SECONDS * len(results) / max(seconds, 1e-6))), LARGEST_CHUNK)
                    yield from results
        except workers.lost:
            raise CharregError(f"executor {executor}: {workers.because}; what is done is kept, run again") from None
        finally:
            for future in waiting:
                future.cancel()


def run_chunk(task: Callable[[T], R], items: list[T]) -> tuple[list[R], float]:
    """Results of a few items, one at a time, and the seconds they took.

    Decoders and torch keep settings (limits, threads) for the whole process, so the threads of a worker take turns.
    """
    with _one_at_a_time:
        begin = time.perf_counter()
        return [task(item) for item in items], time.perf_counter() - begin


@contextlib.contextmanager
def open_executor(executor: str) -> Iterator[Workers]:
    """The workers of `processes:N` or `dask:tcp://host:port`. Raises CharregError."""
    kind, _, place = executor.partition(":")
    if kind == "processes":
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(int(place), mp_context=context, initializer=end_with_parent) as pool:
            because = "a worker died, most likely for want of memory: use fewer processes"
            yield Workers(pool, 4 * int(place), (BrokenExecutor,), because)
        return
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise CharregError("executor dask: dask.distributed is not installed; pip install 'charreg[cluster]'") from None
    try:
        client: Any = Client(place, timeout="20s")  # type: ignore[no-untyped-call,unused-ignore]
    except (OSError, ValueError) as error:
        raise CharregError(f"executor {executor}: {error}; wanted the address of a running scheduler") from None
    with client:
        window = max(8, 4 * sum(client.nthreads().values()))
        because = "several workers died at the same photographs, or the scheduler went away"
        yield Workers(client.get_executor(), window, (KilledWorker, CancelledError), because)


def end_with_parent() -> None:
    """Let this worker end when its parent is killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
