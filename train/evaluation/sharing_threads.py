"""Work on the CPU by several workers that share its threads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from train.progress import say


@contextmanager
def sharing_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """``count`` workers, to each its part of torch's threads. Left by an error or by Ctrl-C, what
    has not begun is dropped and what has is waited for. Torch has as many threads afterwards as
    before."""
    threads = torch.get_num_threads()
    each = max(1, threads // count)
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(each,)) as pool:
            try:
                yield pool
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                say("stopping: what has begun is finished first")
                raise
    finally:
        torch.set_num_threads(threads)
