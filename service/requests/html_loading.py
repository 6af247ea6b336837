"""HTML is translated by modules that are imported with the first HTML document."""

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.requests.html import HtmlDocuments


async def load_html() -> "type[HtmlDocuments]":
    """Return the class of HTML documents; the first call imports it, on a thread.

    An idle process has neither its parser nor its tables in memory.
    """
    module = await asyncio.to_thread(import_module, "service.requests.html")
    kind: type[HtmlDocuments] = module.HtmlDocuments
    return kind
