"""Metrics of videos and live streams. The rules of `metrics.py` hold, too."""

from prometheus_client import Counter, Gauge, Histogram

_AGE_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)

VIDEOS = Gauge("videos", "Videos received or analysed now.", multiprocess_mode="sum")
VIDEO_FRAMES = Counter(
    "video_frames", "Frames of videos and live streams analysed, by task.", ("task",)
)
STREAMS = Gauge(
    "streams",
    "Live streams, by state: connecting, running or waiting.",
    ("state",),
    multiprocess_mode="sum",
)
STREAM_FRAMES_SEEN = Counter(
    "stream_frames_seen",
    "Frames received from the sources of live streams at the wanted rate, by slot of the stream.",
    ("slot",),
)
STREAM_FRAMES = Counter(
    "stream_frames",
    "Frames of live streams, by slot of the stream and result: analysed, failed or dropped.",
    ("slot", "result"),
)
STREAM_FRAME_SECONDS = Histogram(
    "stream_frame_seconds",
    "Age of an analysed frame of a live stream: from its reception to its result.",
    ("slot",),
    buckets=_AGE_SECONDS,
)
