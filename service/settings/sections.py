"""What can be set: one class a section, each field with its default and its meaning."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from service.repository.manifest import Precision
from service.repository.tables import did_you_mean

_DEFAULTS_OF = (
    "classify.text",
    "classify.image",
    "translate.text",
    "detect.image",
    "embed.text",
    "embed.image",
)


class SettingsError(ValueError):
    """The configuration cannot be used; the message names every setting at fault and why."""


def _split(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


def _split_pairs(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in _split(value)]
    if any(not (key.strip() and given.strip()) for key, _, given in pairs):
        raise ValueError("must look like name=value,name=value")
    return {key.strip(): given.strip() for key, _, given in pairs}


_Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_split)]
_Words: TypeAlias = Annotated[Mapping[str, str], BeforeValidator(_split_pairs)]
_Numbers: TypeAlias = Annotated[
    Mapping[str, Annotated[int, Field(ge=1)]], BeforeValidator(_split_pairs)
]
_Level: TypeAlias = Literal["debug", "info", "warning", "error"]
_Levels: TypeAlias = Annotated[Mapping[str, _Level], BeforeValidator(_split_pairs)]
CacheKind: TypeAlias = Literal["none", "memory", "redis"]
"""The cache backends; `app.make_cache` has a `case` for each."""
_RedisUrl: TypeAlias = Annotated[str, Field(pattern=r"^(redis|rediss|unix)://.")]
_Count: TypeAlias = Annotated[int, Field(ge=1)]
_Whole: TypeAlias = Annotated[int, Field(ge=0)]
_Seconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class ServerSettings(_Section):
    """The HTTP server and the process."""

    host: str = Field(
        "127.0.0.1", description="Address to listen on; 0.0.0.0 is every IPv4 one, :: every one."
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8000, description="Port to listen on; 0 takes a free one."
    )
    backlog: _Count = Field(2048, description="Connections the system holds until accepted.")
    keep_alive_seconds: _Count = Field(
        75, description="How long an idle connection is kept; longer than a balancer in front does."
    )
    grace_seconds: _Count = Field(
        30, description="How long accepted requests may take to finish after SIGTERM."
    )
    memory_bytes: _Whole | None = Field(
        None,
        description="Most memory of the process; what asks for more is refused. 0 sets no bound; "
        "unset takes 90 % of the machine's or the control group's on a CPU, no bound on a GPU.",
    )


class ModelSettings(_Section):
    """Which models are served, and on what."""

    repository: Path = Field(
        Path("models/repository"), description="Folder of `<model>/<version>/`."
    )
    only: _Names = Field((), description="Models to load, `a,b`; empty loads all.")
    versions: _Numbers = Field(
        {}, description="Version to load, `model=2,other=1`; of the others the newest that loads."
    )
    defaults: _Words = Field(
        {},
        description="Model of requests that name none, `classify.text=a,embed.image=b`; the "
        "only one that can, for the others.",
    )
    precision: Precision | None = Field(
        None, description="Precision of every model; unset leaves it to each model and the device."
    )
    device: str = Field(
        "auto", description="`cpu`, `cuda:N`, or `auto` for the best that works here."
    )
    device_memory_bytes: _Count | None = Field(
        None, description="Most GPU memory that one session may take; unset sets no bound."
    )
    threads: Annotated[int, Field(ge=0)] = Field(
        0, description="Cores to compute on; 0 takes all that the process may use."
    )
    max_decoding_pixels: _Count = Field(
        100_000_000,
        description="Pixels of all images decoded at once, of 8 bytes each; others wait.",
    )
    warm_up_seconds: _Seconds = Field(
        2.0, description="How long timing its batches may take per queue of a model."
    )

    load_timeout_seconds: _Seconds = Field(
        600.0, description="How long the load of one model may take; then it is stopped."
    )

    @model_validator(mode="after")
    def _has_known_tasks(self) -> Self:
        for name in self.defaults:
            if name not in _DEFAULTS_OF:
                raise ValueError(f"defaults cannot name {name}{did_you_mean(name, _DEFAULTS_OF)}")
        return self


class BatchingSettings(_Section):
    """Dynamic batching, for all models; what is unset is left to each model's manifest."""

    max_batch_size: _Count | None = Field(None, description="Most items of one batch.")
    max_queue_size: _Count | None = Field(
        None, description="Most items waiting for one model; more are refused with 429."
    )
    max_queue_delay_ms: Annotated[float, Field(ge=0, le=10_000)] = Field(
        0.0, description="How long a batch may wait to fill while the device is idle."
    )


class CacheSettings(_Section):
    """The response cache: in memory, and in Redis if a URL is set."""

    enabled: bool = Field(True, description="Whether answers are kept at all.")
    memory_bytes: _Count = Field(64 * 1024 * 1024, description="Most memory of kept answers.")
    memory_entries: _Count = Field(100_000, description="Most answers kept in memory.")
    ttl_seconds: _Seconds = Field(86_400.0, description="How long an answer is kept.")
    redis_url: _RedisUrl | None = Field(
        None,
        repr=False,
        description="`redis://`, `rediss://` or `unix://`; unset uses memory only.",
    )
    redis_prefix: str = Field("quartet:", description="Put before every key in Redis.")
    redis_timeout_ms: Annotated[float, Field(gt=0, le=50)] = Field(
        20.0, description="How long a request waits for Redis; then it computes."
    )
    redis_readers: _Count = Field(2, description="Connections that look up; one more writes.")
    redis_secret: SecretStr | None = Field(
        None, description="Only answers sealed with it are believed; the same for all replicas."
    )

    @property
    def backend(self) -> CacheKind:
        """Return the backend that these settings ask for."""
        if not self.enabled:
            return "none"
        return "memory" if self.redis_url is None else "redis"


class LimitSettings(_Section):
    """How much one request may ask for, and all of them together."""

    max_body_bytes: _Count = Field(16 * 1024 * 1024, description="Size of a body.")
    max_bodies_bytes: _Count = Field(
        256 * 1024 * 1024, description="Size of all bodies at once; more are refused with 429."
    )
    max_items: _Count = Field(64, description="Items of one request.")
    max_characters: _Count = Field(20_000, description="Characters of one text.")
    max_pixels: _Count = Field(50_000_000, description="Pixels of one decoded image.")
    max_json_depth: _Count = Field(32, description="Nesting of a JSON body.")
    request_timeout_seconds: _Seconds = Field(
        30.0, description="Deadline of a request that names none."
    )
    max_timeout_seconds: _Seconds = Field(
        120.0, description="Longest deadline a request may name; a longer one is cut to it."
    )
    max_document_characters: _Count = Field(
        500_000, description="Characters of all texts that a request wants translated in pieces."
    )
    max_segments: _Count = Field(
        10_000, description="Lines and sentences that a request wants translated."
    )
    stream_timeout_seconds: _Seconds = Field(
        600.0, description="Deadline of a stream that names none; also the longest one may name."
    )

    @model_validator(mode="after")
    def _parts_fit_the_whole(self) -> Self:
        if self.request_timeout_seconds > self.max_timeout_seconds:
            raise ValueError("request_timeout_seconds must not exceed max_timeout_seconds")
        if self.max_body_bytes > self.max_bodies_bytes:
            raise ValueError("max_body_bytes must not exceed max_bodies_bytes")
        return self


class LogSettings(_Section):
    """What is logged, and how; the access log is a line a request, as far as its bounds allow."""

    level: _Level = Field("info", description="Least severity of an event that is logged.")
    levels: _Levels = Field(
        {}, description="The same for single modules, `service.registry=debug,uvicorn=warning`."
    )
    format: Literal["auto", "text", "json"] = Field(
        "auto",
        description="One event a line: as `key=value`, or as a JSON object; `auto` is text on a "
        "terminal and JSON elsewhere.",
    )
    requests_per_second: _Whole = Field(
        10, description="Most lines a second of requests that went well; 0 logs none of them."
    )
    failures_per_second: _Whole = Field(
        100, description="Most lines a second of requests that failed or were slow."
    )
    slow_seconds: _Seconds = Field(1.0, description="From when on a request is slow.")


class TraceSettings(_Section):
    """Traces by OpenTelemetry (extra `otel`); what is not set here its own variables set."""

    exporter: Literal["none", "http", "grpc"] = Field(
        "none", description="Whether traces are exported, and over which form of OTLP."
    )
    endpoint: Annotated[str, Field(pattern=r"^https?://.")] | None = Field(
        None,
        description="Address of the collector, `http://collector:4318`; unset takes "
        "`OTEL_EXPORTER_OTLP_ENDPOINT`, else this host.",
    )
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="Share of requests that are traced, where their caller has not decided."
    )
    service_name: str | None = Field(
        None, description="Name in traces; unset takes `OTEL_SERVICE_NAME`, else `quartet`."
    )

    @model_validator(mode="after")
    def _has_a_use(self) -> Self:
        if self.endpoint is not None and self.exporter == "none":
            raise ValueError("endpoint is of no use while exporter is none")
        return self


class AdminSettings(_Section):
    """Who may load and unload models; nobody while no token is set."""

    token: SecretStr | None = Field(None, description="The administrators' bearer token.")
    token_file: Path | None = Field(None, description="File that holds the token instead.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file exclude each other")
        return self

    def read_token(self) -> str | None:
        """Return the token, from its file if need be; None if there is none.

        Raises:
            SettingsError: the file cannot be read or is empty.
        """
        if self.token_file is None:
            return None if self.token is None else self.token.get_secret_value()
        try:
            token = self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise SettingsError(f"admin.token_file cannot be read: {error}") from None
        if not token:
            raise SettingsError(f"admin.token_file: {self.token_file} is empty")
        return token


class Settings(BaseModel):
    """Everything, in sections."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: ServerSettings = ServerSettings()
    models: ModelSettings = ModelSettings()
    batching: BatchingSettings = BatchingSettings()
    cache: CacheSettings = CacheSettings()
    limits: LimitSettings = LimitSettings()
    logs: LogSettings = LogSettings()
    traces: TraceSettings = TraceSettings()
    admin: AdminSettings = AdminSettings()
