"""Access log and traces, as the settings have them."""

from service.settings import LogSettings, SettingsError, TraceSettings
from service.telemetry.access import AccessLog, AccessOptions, Telemetry, Traces


def open_traces(settings: TraceSettings) -> Traces | None:
    """Return where traces go; None if nowhere.

    Raises:
        SettingsError: OpenTelemetry is not installed, or cannot use one of its own variables.
    """
    if settings.exporter == "none":
        return None
    try:
        from service.telemetry import tracing  # noqa: PLC0415 - an extra; without it all else runs

        options = tracing.TraceOptions(
            settings.exporter, settings.endpoint, settings.sample_ratio, settings.service_name
        )
        return tracing.open_traces(options)
    except ImportError as error:
        raise SettingsError(
            f"traces.exporter is {settings.exporter}, but {error.name} is not installed; "
            "it comes with the extra otel: pip install 'quartet[otel]'"
        ) from None
    except ValueError as error:
        raise SettingsError(f"traces cannot be exported: {error}") from None


def make_observer(settings: LogSettings, traces: Traces | None) -> Telemetry | None:
    """Return the observer of completed requests; None if logs and traces are off."""
    options = AccessOptions(
        settings.requests_per_second, settings.failures_per_second, settings.slow_seconds
    )
    logs_any = options.requests_per_second or options.failures_per_second
    access = AccessLog(options) if logs_any else None
    return None if access is None and traces is None else Telemetry(access, traces)
