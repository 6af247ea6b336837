"""All settings: one class per section, each field with its default and description."""

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from service.settings.access import AccessSettings, AdminSettings
from service.settings.models import ModelSettings
from service.settings.section import Count, Names, Seconds, Section, split_pairs
from service.settings.web import Networks, Origins, Prefix

_Level: TypeAlias = Literal["debug", "info", "warning", "error"]
_Levels: TypeAlias = Annotated[Mapping[str, _Level], BeforeValidator(split_pairs)]
CacheKind: TypeAlias = Literal["none", "memory", "redis"]
"""The cache backends; `app.make_cache` has a `case` for each."""
_RedisUrl: TypeAlias = Annotated[str, Field(pattern=r"^(redis|rediss|unix)://.")]
_Whole: TypeAlias = Annotated[int, Field(ge=0)]


class ServerSettings(Section):
    """The HTTP server and the process."""

    host: str = Field(
        "127.0.0.1",
        description="Address to listen on; 0.0.0.0 means all IPv4 interfaces, :: also IPv6.",
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8000, description="Port to listen on; 0 selects a free one."
    )
    tcp: bool = Field(
        True, description="Whether to listen on host and port; false needs a Unix socket."
    )
    unix_socket: Path | None = Field(
        None, description="Path of a Unix socket to listen on, without TLS; unset means none."
    )
    unix_socket_mode: Annotated[str, Field(pattern=r"^0?[0-7]{3}$")] = Field(
        "660", description="Permissions of the Unix socket, octal; clients need the one to write."
    )
    grpc_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None,
        description="Port of the Open Inference Protocol over gRPC, by custom 8001; unset means "
        "none. Needs the extra `grpc`.",
    )
    tls_cert: Path | None = Field(
        None,
        description="PEM file of the certificate chain, for HTTPS and gRPC, read again when it "
        "changes; unset means no TLS.",
    )
    tls_key: Path | None = Field(
        None, description="PEM file of the certificate's private key, without a passphrase."
    )
    cors_origins: Origins = Field(
        (),
        description="Origins whose pages may call the service from a browser, "
        "`https://app.example.org,http://localhost:3000`, or `*` for all; unset allows none.",
    )
    root_path: Prefix | None = Field(
        None,
        description="Prefix that a proxy strips from the path, `/quartet`; "
        "it is the server in `/openapi.json`.",
    )
    forwarded_allow_ips: Networks = Field(
        (),
        description="Addresses and networks of proxies, `10.0.0.0/8,::1`, whose "
        "`X-Forwarded-For` and `X-Forwarded-Proto` are believed; the access log then has the "
        "field `client`.",
    )
    processes: Count = Field(
        1,
        description="Processes that serve, each with its own models and its part of the cores; "
        "needs Linux or macOS. See `docs/performance.md`.",
    )
    backlog: Count = Field(
        2048, description="Length of the kernel's queue of connections that wait to be accepted."
    )
    keep_alive_seconds: Count = Field(
        75, description="Keep-alive timeout of idle connections; set it above the load balancer's."
    )
    grace_seconds: Count = Field(
        30, description="Grace period for accepted requests after SIGTERM."
    )
    memory_bytes: _Whole | None = Field(
        None,
        description="Memory limit of the process; requests that need more are refused. 0 means "
        "no limit; unset means 90 % of the machine or control group on a CPU, no limit on a GPU.",
    )

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine can connect."""
        with suppress(ValueError):
            return ip_address(self.host).is_loopback
        return self.host == "localhost"

    @property
    def is_on_network(self) -> bool:
        """Return whether the host is listened on, over HTTP or gRPC."""
        return self.tcp or self.grpc_port is not None

    @model_validator(mode="after")
    def _listens_on_something(self) -> Self:
        if not self.tcp and self.unix_socket is None:
            raise ValueError("tcp may only be false with a unix_socket")
        return self

    @model_validator(mode="after")
    def _has_both_files(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key need one another")
        return self


class BatchingSettings(Section):
    """Dynamic batching of all models; unset values come from each model's manifest."""

    max_batch_size: Count | None = Field(None, description="Largest number of items in a batch.")
    max_queue_size: Count | None = Field(
        None, description="Largest number of queued items per model; further items get 429."
    )
    max_queue_delay_ms: Annotated[float, Field(ge=0, le=10_000)] = Field(
        0.0, description="Time that a batch may wait to fill up while the device is idle."
    )


class CacheSettings(Section):
    """Response cache in memory, and in Redis if a URL is set."""

    enabled: bool = Field(True, description="Whether to cache answers.")
    memory_bytes: Count = Field(64 * 1024 * 1024, description="Size limit of the memory cache.")
    memory_entries: Count = Field(100_000, description="Entry limit of the memory cache.")
    ttl_seconds: Seconds = Field(86_400.0, description="Time to live of an entry.")
    redis_url: _RedisUrl | None = Field(
        None,
        repr=False,
        description="`redis://`, `rediss://` or `unix://` URL; unset caches in memory only.",
    )
    redis_prefix: str = Field("quartet:", description="Prefix of the keys in Redis.")
    redis_timeout_ms: Annotated[float, Field(gt=0, le=50)] = Field(
        20.0, description="Time limit of a look-up in Redis, after which the answer is computed."
    )
    redis_readers: Count = Field(
        2, description="Connections for look-ups; one more is used for writes."
    )
    redis_secret: SecretStr | None = Field(
        None, description="Key that authenticates entries; must be equal on all replicas."
    )

    @property
    def backend(self) -> CacheKind:
        """Return the backend that these settings ask for."""
        if not self.enabled:
            return "none"
        return "memory" if self.redis_url is None else "redis"


class LimitSettings(Section):
    """Limits of a request, and of all requests together."""

    max_body_bytes: Count = Field(16 * 1024 * 1024, description="Size of a request body.")
    max_bodies_bytes: Count = Field(
        256 * 1024 * 1024,
        description="Total size of request bodies in memory; further requests get 429.",
    )
    min_compress_bytes: _Whole = Field(
        1024,
        description="Size from which an answer is compressed if the client accepts it; 0 means "
        "never.",
    )
    max_items: Count = Field(64, description="Items in a request.")
    max_characters: Count = Field(20_000, description="Characters in a text.")
    max_pixels: Count = Field(50_000_000, description="Pixels in a decoded image.")
    max_json_depth: Count = Field(32, description="Nesting depth of a JSON body.")
    request_timeout_seconds: Seconds = Field(
        30.0, description="Deadline of requests that set none."
    )
    max_timeout_seconds: Seconds = Field(
        120.0, description="Longest deadline that a request may set; longer ones are reduced to it."
    )
    max_document_characters: Count = Field(
        500_000,
        description="Total characters of the texts that a request has split and translated.",
    )
    max_segments: Count = Field(10_000, description="Segments (lines and sentences) in a request.")
    stream_timeout_seconds: Seconds = Field(
        600.0, description="Default and longest deadline of a stream."
    )
    max_video_bytes: Count = Field(512 * 1024 * 1024, description="Size of a video file.")
    max_videos: Count = Field(
        4, description="Videos received or analysed at the same time; further requests get 429."
    )
    max_streams: Count = Field(
        8, description="Live streams at the same time; further ones get 429."
    )
    video_folder: Path | None = Field(
        None, description="Folder of video files while they are analysed; unset is the system's."
    )

    @model_validator(mode="after")
    def _parts_fit_the_whole(self) -> Self:
        if self.request_timeout_seconds > self.max_timeout_seconds:
            raise ValueError("request_timeout_seconds must not exceed max_timeout_seconds")
        if self.max_body_bytes > self.max_bodies_bytes:
            raise ValueError("max_body_bytes must not exceed max_bodies_bytes")
        return self


class StreamSettings(Section):
    """Live streams; see `docs/video.md`."""

    sources: Names = Field(
        (),
        description="Addresses that live streams may open, and all below them, "
        "`rtsp://camera.lan:554/,file:///srv/clips`; empty allows none.",
    )


class LogSettings(Section):
    """Logging; the access log has a line per request, up to its rate limits."""

    level: _Level = Field("info", description="Lowest level that is logged.")
    levels: _Levels = Field(
        {}, description="Levels of single modules, `service.registry=debug,uvicorn=warning`."
    )
    format: Literal["auto", "text", "json"] = Field(
        "auto",
        description="`text` (`key=value`) or `json`, one event per line; `auto` is text on a "
        "terminal "
        "and JSON elsewhere.",
    )
    requests_per_second: _Whole = Field(
        10, description="Access log lines per second for successful requests; 0 disables them."
    )
    failures_per_second: _Whole = Field(
        100, description="Access log lines per second for failed and slow requests."
    )
    slow_seconds: Seconds = Field(1.0, description="Duration from which a request counts as slow.")


class TraceSettings(Section):
    """OpenTelemetry traces (extra `otel`); its own variables configure the rest."""

    exporter: Literal["none", "http", "grpc"] = Field(
        "none", description="OTLP transport for exporting traces, or `none`."
    )
    endpoint: Annotated[str, Field(pattern=r"^https?://.")] | None = Field(
        None,
        description="Collector URL, `http://collector:4318`; unset means "
        "`OTEL_EXPORTER_OTLP_ENDPOINT`, else localhost.",
    )
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="Share of requests to trace if the caller has not decided."
    )
    service_name: str | None = Field(
        None, description="Service name in traces; unset means `OTEL_SERVICE_NAME`, else `quartet`."
    )

    @model_validator(mode="after")
    def _has_a_use(self) -> Self:
        if self.endpoint is not None and self.exporter == "none":
            raise ValueError("endpoint is of no use while exporter is none")
        return self


class Settings(BaseModel):
    """All settings, by section."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: ServerSettings = ServerSettings()
    models: ModelSettings = ModelSettings()
    batching: BatchingSettings = BatchingSettings()
    cache: CacheSettings = CacheSettings()
    limits: LimitSettings = LimitSettings()
    streams: StreamSettings = StreamSettings()
    logs: LogSettings = LogSettings()
    traces: TraceSettings = TraceSettings()
    access: AccessSettings = AccessSettings()
    admin: AdminSettings = AdminSettings()
