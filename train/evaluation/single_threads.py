"""Work on the CPU by several threads, each of which computes alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def single_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """``count`` workers, one thread of torch each if they are several; left by an error, what has
    not begun is dropped. Torch has as many threads afterwards as before."""
    threads = torch.get_num_threads()
    each = threads if count == 1 else 1
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(each,)) as pool:
            try:
                yield pool
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        torch.set_num_threads(threads)
