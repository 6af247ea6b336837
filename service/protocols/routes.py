"""All routes of the protocols. A path that several protocols share is listed here."""

from collections.abc import Sequence

from service.protocols.oip.rest import oip_routes
from service.protocols.openai import openai_routes
from service.protocols.protocol import ProtocolRoute, post
from service.protocols.rerank import RERANKING


def protocol_routes() -> Sequence[ProtocolRoute]:
    """Return the routes of every protocol."""
    return [
        *openai_routes(),
        *oip_routes(),
        *(post(path, RERANKING) for path in ("/v1/rerank", "/v2/rerank", "/rerank")),
    ]
