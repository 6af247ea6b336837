"""What stands around the application: CORS for other origins, and headers of proxies."""

from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

CLIENT = "quartet.client"
"""Key in the ASGI scope for the client's address; set only if proxies are trusted."""

_EXPOSED = (
    "x-request-id",
    "x-cache",
    "server-timing",
    "retry-after",
    "retry-after-ms",
    "ratelimit",
    "ratelimit-policy",
    "inference-header-content-length",
)
"""Headers of answers that scripts of other origins may read."""


def surrounded(app: ASGIApp, origins: Collection[str], proxies: Sequence[Network]) -> ASGIApp:
    """Return the application with CORS and trusted proxies, as far as there are any.

    Args:
        app: the application.
        origins: of the pages that may read answers; `*` means all.
        proxies: whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted.
    """
    if origins:
        from starlette.middleware.cors import CORSMiddleware  # noqa: PLC0415 - few need it

        app = CORSMiddleware(
            app,
            allow_origins=frozenset(origins),
            allow_methods=["*"],  # the route decides, by 405
            allow_headers=["*"],  # clients send many; `*` itself would not cover Authorization
            allow_private_network="*" not in origins,
            expose_headers=_EXPOSED,
        )
    return ForwardedHeaders(app, proxies) if proxies else app


class ForwardedHeaders:
    """Takes the scheme and the client's address from the headers of trusted proxies.

    The address is the right-most one in `X-Forwarded-For` that is not a trusted proxy's: a client
    can only write what stands on its left. The peers of the Unix socket are trusted too.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[Network]) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._read(scope)
        await self._app(scope, receive, send)

    def _read(self, scope: Scope) -> None:
        peer, server = scope.get("client"), scope.get("server")
        address = _address(peer[0]) if peer else None
        is_unix_socket = peer is None and server is not None and server[1] is None
        if is_unix_socket or self._trusts(address):
            for name, value in scope["headers"]:  # the last one: the proxy's own
                if name == b"x-forwarded-proto" and value.lower() in (b"http", b"https"):
                    scope["scheme"] = value.lower().decode()
            address = self._client(scope) or address
        if address is not None:
            scope[CLIENT] = str(address)

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._proxies)

    def _client(self, scope: Scope) -> Address | None:
        """Return the client's address; None if the headers have none."""
        values = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        found = None
        for text in reversed(b",".join(values).decode("latin-1").split(",")):
            if (address := _address(text.strip())) is None:
                break  # so what is on its left may be forged as well
            found = address
            if not self._trusts(address):
                break
        return found


def _address(text: str) -> Address | None:
    """Return an address that may have a port, brackets and a zone; None if it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
