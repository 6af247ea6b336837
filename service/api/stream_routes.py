"""The routes of live streams."""

from collections.abc import Sequence
from functools import cache

from service.api import openapi
from service.api.route import DirectRoute, route
from service.api.stream_events import STREAM_EVENTS, StreamsResponse, StreamStatus
from service.api.streams import (
    StreamRequest,
    add_stream,
    list_streams,
    read_stream,
    remove_stream,
    show_stream,
)

_ALL = "/v1/streams"
_ONE = "/v1/streams/{stream}"


@cache
def stream_routes() -> Sequence[DirectRoute]:
    """Return the routes of live streams."""
    document = openapi.stream_documentation
    example = {"Cards seen by a camera": {"url": "rtsp://camera.example/cards", "track": True}}
    return [
        route(
            _ALL,
            "POST",
            add_stream,
            {
                "status_code": 201,
                **document({201: {"model": StreamStatus}}, False, StreamRequest, example),
            },
        ),
        route(_ALL, "GET", list_streams, document({200: {"model": StreamsResponse}}, False)),
        route(_ONE, "GET", show_stream, document({200: {"model": StreamStatus}}, True)),
        route(
            f"{_ONE}/events",
            "GET",
            read_stream,
            document({200: {"content": openapi.streamed(STREAM_EVENTS)}}, True),
        ),
        route(
            _ONE,
            "DELETE",
            remove_stream,
            {"status_code": 204, **document({204: {"description": "It has ended."}}, True)},
        ),
    ]
