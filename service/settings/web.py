"""Types of settings about browsers and proxies: origins, networks and a prefix of paths."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from service.settings.section import split

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9._:\[\]-]+")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def _origin(value: str) -> str:
    if value == "*":
        return value
    port = _DEFAULT_PORTS.get(value.partition(":")[0])
    if not _ORIGIN.fullmatch(value) or (port is not None and value.endswith(port)):
        raise ValueError(
            "must be * or an origin as browsers send it, such as https://app.example.org:8443: "
            "in lower case, in ASCII, without a path and without the default port"
        )
    return value


def _network(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ip_network(value)
    except ValueError as error:
        raise ValueError(f"must be an address or a network such as 10.0.0.0/8: {error}") from None


Origins: TypeAlias = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(split)
]
Networks: TypeAlias = Annotated[
    tuple[Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)], ...],
    BeforeValidator(split),
]
Prefix: TypeAlias = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~%-]+)+$")]
