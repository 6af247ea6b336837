"""What may happen to a video, a live stream, a workflow and their clients: a row each."""

import asyncio
import json
from collections.abc import Mapping

from service.errors import InferenceError
from tests.integration.garbage.bench import MOST_VIDEO, SAMPLES, Bench, Visit, json_of
from tests.integration.garbage.rounds import (
    _ADMIN,
    _CARDS,
    CLIP,
    Round,
    during,
    failing,
    hurried,
    is_answered,
    leaves,
    raw,
    without_video_room,
)


def video(query: bytes = b"every=30") -> Visit:
    return raw("/v1/video", CLIP, b"video/mp4", query=query)


def stream(**members: object) -> Round:
    """Start a live stream, read its first frames, leave it, and delete it."""
    body = {"url": f"file://{SAMPLES / 'cards.mp4'}", **members}

    async def once(bench: Bench) -> None:
        started = await bench.ask(json_of("/v1/streams", body, _ADMIN))
        started.answered(201)
        path = f"/v1/streams/{json.loads(started.told)['id']}"
        live = bench.context.streams.find(path.rpartition("/")[2])
        while live.analysed < 2 and not live.changed.error:  # noqa: ASYNC110
            await asyncio.sleep(1e-3)
        reader = Visit("GET", f"{path}/events", headers=(_ADMIN,))
        await bench.leave(reader, reader.heard)
        (await bench.ask(Visit("DELETE", path, headers=(_ADMIN,)))).answered(204)
        while not live.is_gone:  # noqa: ASYNC110
            await asyncio.sleep(1e-3)
        assert live.analysed >= 2

    return once


VIDEOS: Mapping[str, Round] = {
    "a video": is_answered(200, lambda: video(b"every=30&track=true")),
    "a video of labels": is_answered(
        200, lambda: video(b"every=40&task=classify&labels=dog&labels=ace&segments=true")
    ),
    "200 a video that is cut short": is_answered(
        200, lambda: raw("/v1/video", CLIP[: len(CLIP) * 2 // 3], b"video/mp4", query=b"every=20")
    ),
    "200 a video whose frames fail": failing(
        "cards", InferenceError("no"), is_answered(200, video)
    ),
    "404 a model for a video": is_answered(404, lambda: video(b"model=nobody")),
    "408 a video that does not arrive": is_answered(
        408, lambda: hurried(raw("/v1/video", CLIP, b"video/mp4", never_ends=True))
    ),
    "413 a video": is_answered(413, lambda: raw("/v1/video", bytes(MOST_VIDEO + 1), b"video/mp4")),
    "422 a parameter of a video": is_answered(422, lambda: video(b"fps=0")),
    "422 no video": is_answered(422, lambda: raw("/v1/video", b"x" * 50_000, b"video/mp4")),
    "429 too many videos": without_video_room(is_answered(429, video)),
    "left while it sent a video": leaves(
        lambda: raw("/v1/video", CLIP, b"video/mp4", never_ends=True)
    ),
    "left a video after its start": leaves(lambda: video(b""), first=True),
    "a workflow": is_answered(200, lambda: raw("/v1/run/cards", _CARDS, b"image/jpeg")),
    "a workflow on a video": is_answered(200, lambda: video(b"every=30&workflow=cards&track=true")),
    "a live stream": stream(task="detect", track=True),
    "a live stream with a workflow": stream(workflow="cards"),
    "left a video in the queue": during("no_slot", leaves(lambda: video(b""), first=True)),
}
