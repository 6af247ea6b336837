"""Protocols of other services: their clients work unchanged. One file for each protocol."""

from service.protocols.routes import protocol_routes

__all__ = ["protocol_routes"]
