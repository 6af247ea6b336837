"""The answer to a video as a video: an MP4 with the results drawn into its frames."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import numpy as np

from service.api.streaming import StreamForm
from service.errors import ServiceError
from service.requests.video import FrameResult, VideoAnalysis, VideoEnd
from service.tasks import Detections
from service.transforms.vision.drawing import Pixels, draw_labels, draw_objects, draw_problem
from service.transforms.vision.video_writer import VideoWriter

_LABELS = 3
_SHOWN = 2.0
"""Seconds for which the reason of an early end is shown."""
_USUAL_RATE = 25.0

MP4 = StreamForm(b"video/mp4", bytes)


@dataclass(slots=True)
class Rendering:
    """Makes an MP4 of the analysed frames of a video."""

    analysis: VideoAnalysis
    top_k: int | None
    _writer: VideoWriter
    _last: Pixels
    """The last frame, to be shown with the reason of an early end."""

    @classmethod
    def of(cls, analysis: VideoAnalysis, top_k: int | None) -> "Rendering":
        """Open an encoder for the frames of a video. Raises UnsupportedMediaTypeError."""
        info = analysis.video.reader.info
        rate = analysis.sampling.fps or info.rate or _USUAL_RATE
        writer = VideoWriter(info.width, info.height, rate)
        return cls(analysis, top_k, writer, np.zeros((info.height, info.width, 3), np.uint8))

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the file piece by piece. If the video ended early, it ends with the reason."""
        loop, thread = asyncio.get_running_loop(), self.analysis.video.thread
        async with aclosing(self.analysis.events()) as events:
            async for event in events:
                if isinstance(event, FrameResult):
                    if piece := await loop.run_in_executor(thread, partial(self._add, event)):
                        yield piece
                elif isinstance(event, VideoEnd):
                    yield await loop.run_in_executor(thread, partial(self._end, event.error))

    def _add(self, event: FrameResult) -> bytes:
        self._last = event.frame.pixels
        return self._writer.add(self._drawn(event), event.frame.seconds)

    def _end(self, error: ServiceError | None) -> bytes:
        shown = b""
        if error is not None:
            pixels = draw_problem(self._last, str(error))
            for seconds in (0.0, _SHOWN):
                shown += self._writer.add(pixels, self.analysis.seconds + seconds)
        return shown + self._writer.end()

    def _drawn(self, event: FrameResult) -> Pixels:
        pixels, result = event.frame.pixels, event.result
        if isinstance(result, ServiceError):
            return draw_problem(pixels, str(result))
        if event.tracked is not None:
            return draw_objects(pixels, event.tracked.objects, event.tracked.ids)
        if isinstance(result.answer, Detections):
            return draw_objects(pixels, result.answer.objects)
        return draw_labels(pixels, result.answer.labels[: self.top_k or _LABELS])
