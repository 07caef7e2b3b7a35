"""Work on several threads whose results come in the order of what they are made of."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def ordered(
    work: Callable[[Key], Value], items: Iterable[Key], workers: int, ahead: int = 1
) -> Generator[Value, None, None]:
    """Results of `work` in the order of the items, at most `workers + ahead` of them begun and not yet taken.

    The items themselves are asked for by the thread that takes the results.
    """
    with ThreadPoolExecutor(workers) as pool:
        rest = iter(items)
        waiting: list[Future[Value]] = [pool.submit(work, item) for item in islice(rest, workers + ahead)]
        try:
            while waiting:
                result = waiting.pop(0).result()
                waiting.extend(pool.submit(work, item) for item in islice(rest, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()
