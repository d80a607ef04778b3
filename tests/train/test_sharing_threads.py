"""Workers that share torch's threads: what each has, and what is left behind them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from train.evaluation.sharing_threads import sharing_threads


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def threads_of_a_new_one() -> int:
    """What a thread that begins now has; one that has computed keeps its own number."""
    with ThreadPoolExecutor(1) as fresh:
        return fresh.submit(torch.get_num_threads).result()


@pytest.mark.parametrize(("count", "each"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_each_has_its_part(count: int, each: int) -> None:
    with sharing_threads(count) as pool:
        found = list(pool.map(lambda i: (i, torch.get_num_threads()), range(9)))
    assert found == [(i, each) for i in range(9)]
    assert torch.get_num_threads() == threads_of_a_new_one() == 4


def test_an_error_drops_what_has_not_begun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[int] = []
    dropped = threading.Event()
    really = ThreadPoolExecutor.shutdown

    def told(pool: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False) -> None:
        really(pool, wait=False, cancel_futures=cancel_futures)
        if cancel_futures:
            dropped.set()
        really(pool, wait=wait)

    def work(i: int) -> None:
        begun.append(i)
        dropped.wait(timeout=60)

    def left() -> None:
        with sharing_threads(2) as pool:
            for i in range(50):
                pool.submit(work, i)
            raise KeyboardInterrupt

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", told)
    with pytest.raises(KeyboardInterrupt):
        left()
    assert set(begun) <= {0, 1}
    assert torch.get_num_threads() == threads_of_a_new_one() == 4
    assert "stopping: what has begun is finished first" in capsys.readouterr().err
