"""How many pixels are decoded at once, by all threads: it is what decoding takes memory for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class PixelBudget:
    """Room for so many pixels. Blocks the threads that find none, first come first served."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._held = 0
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        return f"<PixelBudget {self._held} of {self.most} held>"

    @contextmanager
    def held(self, pixels: int) -> Iterator[None]:
        """Hold room for so many in a block. More than there may be is let in when it is alone."""
        with self._turn, self._changed:  # who waits for room holds back who comes later
            self._changed.wait_for(lambda: not self._held or self._held + pixels <= self.most)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()
