"""An open video, and the thread that decodes it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from service.transforms.vision.frames import VideoReader


@dataclass(eq=False, slots=True)
class Video:
    """An open video, and the thread that decodes it. Leave it as a context manager."""

    reader: VideoReader
    thread: ThreadPoolExecutor

    @classmethod
    async def open(cls, open_reader: Callable[[], VideoReader]) -> Self:
        """Open a video on a thread of its own. Raises what `open_reader` raises."""
        thread = ThreadPoolExecutor(1, "video")
        opening = asyncio.get_running_loop().run_in_executor(thread, open_reader)
        try:
            return cls(await asyncio.shield(opening), thread)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            thread.shutdown(wait=False)
            raise
        except Exception:
            thread.shutdown(wait=False)
            raise
        finally:
            del opening  # it holds the error, whose traceback holds this frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.reader.stop()
        self.thread.submit(self.reader.close)  # after the frame that it may be decoding
        self.thread.shutdown(wait=False)


def _close_opened(opening: "asyncio.Future[VideoReader]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
