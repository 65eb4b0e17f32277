"""Batches ahead of the step that needs them, made by threads; and how long the step waited for them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


class Batches(Generic[T]):
    """`make(i)` for i = first, first + 1, …, stop - 1, in order.

    workers: threads that make the next ones (reading and decoding release Python's lock); 0 makes each when it is
    asked for. `waited` sums the seconds that the reader had to wait, not those of a GPU that waits for the reader to
    launch its kernels. What is made does not depend on `workers`.
    """

    def __init__(self, make: Callable[[int], T], first: int, stop: int, workers: int, device: torch.device) -> None:
        self.make, self.first, self.stop, self.workers, self.device = make, first, stop, workers, device
        self.waited = 0.0

    def __iter__(self) -> Generator[T]:
        with closing(self._alone() if self.workers == 0 else self._ahead()) as made:
            while True:
                start = time.monotonic()
                try:
                    item = next(made)
                except StopIteration:
                    return
                self.waited += time.monotonic() - start
                yield item

    def _alone(self) -> Generator[T]:
        for i in range(self.first, self.stop):
            yield self.make(i)

    def _ahead(self) -> Generator[T]:
        waiting = deque[Future[T]]()
        pool = ThreadPoolExecutor(self.workers, "batches", initializer=self._prepare_thread)
        try:
            for i in range(self.first, self.stop):
                waiting.append(pool.submit(self.make, i))
                if len(waiting) > self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _prepare_thread(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # a thread starts on the first card
