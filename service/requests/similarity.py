"""How near texts and images are to one: by an embedder's cosines, or a classifier of pairs."""

from collections.abc import Sequence
from functools import partial

from service.errors import ServiceError
from service.requests.answer import Answers, Models, answer, found
from service.requests.request import Request, Selection
from service.requests.rerank import rerank, with_cosines
from service.tasks import ComposedTask, Content, EmbedItem, Task, Text


async def similarity(
    models: Models,
    request: Request,
    selection: Selection,
    source: Content,
    others: Sequence[Content | ServiceError],
) -> Answers:
    """Compare every content with the source. Cancel it when the client has disconnected.

    Args:
        models: the models that can be asked.
        request: deadline, priority and cache mode of every item.
        selection: an embedder, or for texts a classifier of pairs; else the default to embed.
        source: what the others are compared with.
        others: in order; one that could not be parsed is given as its error.

    Returns:
        A float as the answer of each of the others: a cosine from -1 to 1, or the score of the
        classifier's only label.

    Raises:
        ServiceError: no model can answer the request, or the source could not be computed.
    """
    texts = [other for other in others if isinstance(other, Text | ServiceError)]
    if selection.model is not None and isinstance(source, Text) and len(texts) == len(others):
        named = (selection.model, selection.version, request.sticky or request.id)
        find = partial(models.find, ComposedTask.RERANK, "text", *named)
        if (await found(find, request)).task is Task.CLASSIFY:
            return await rerank(models, request, selection, source, texts)
    items = [
        EmbedItem(source),
        *(other if isinstance(other, ServiceError) else EmbedItem(other) for other in others),
    ]
    return with_cosines(await answer(models, request, Task.EMBED, selection, items), "source")
