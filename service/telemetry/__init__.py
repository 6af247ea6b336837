"""Telemetry of a completed request: a line of the access log, and a trace."""
