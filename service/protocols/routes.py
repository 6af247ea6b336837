"""All routes of the protocols. A path that several protocols share is listed here."""

from collections.abc import Sequence
from functools import cache

from service.protocols.deepstack import deepstack_routes
from service.protocols.huggingface import huggingface_routes
from service.protocols.infinity import infinity_routes
from service.protocols.libretranslate import libretranslate_routes
from service.protocols.oip.rest import oip_routes
from service.protocols.openai import openai_routes
from service.protocols.probes import probe_routes
from service.protocols.protocol import ProtocolRoute, post
from service.protocols.rerank import RERANKING
from service.protocols.tei import RANK, tei_routes
from service.protocols.weaviate import SCORE, weaviate_routes


@cache
def protocol_routes() -> Sequence[ProtocolRoute]:
    """Return the routes of every protocol."""
    return [
        *openai_routes(),
        post("/v1/rerank", RERANKING),
        post("/v2/rerank", RERANKING),
        post("/rerank", RANK, SCORE, RERANKING),
        *tei_routes(),
        *infinity_routes(),
        *weaviate_routes(),
        *probe_routes(),
        *oip_routes(),
        *huggingface_routes(),
        *libretranslate_routes(),
        *deepstack_routes(),
    ]
