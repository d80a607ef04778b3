"""Workers that compute alone: what they see, and what is left behind them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from train.evaluation.single_threads import single_threads


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("count", "each"), [(1, 4), (2, 1), (3, 1)])
def test_each_computes_alone(count: int, each: int) -> None:
    with single_threads(count) as pool:
        found = list(pool.map(lambda i: (i, torch.get_num_threads()), range(9)))
    assert found == [(i, each) for i in range(9)]
    assert torch.get_num_threads() == 4


def test_an_error_drops_what_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    dropped = threading.Event()
    really = ThreadPoolExecutor.shutdown

    def told(pool: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False) -> None:
        really(pool, wait=False, cancel_futures=cancel_futures)
        if cancel_futures:
            dropped.set()
        really(pool, wait=wait)

    def work(i: int) -> int:
        begun.append(i)
        if i == 0:
            raise ValueError("first")
        dropped.wait(timeout=60)
        return i

    def left() -> None:
        with single_threads(2) as pool:
            next(pool.map(work, range(50)))

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", told)
    with pytest.raises(ValueError, match="first"):
        left()
    assert dropped.is_set()
    assert set(begun) <= {0, 1, 2}
    assert torch.get_num_threads() == 4
