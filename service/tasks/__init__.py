"""What the service promises, task by task: what goes in, what comes out.

Families answer these; the HTTP schemas in `service.api` translate to and from them.
"""

from typing import TypeAlias

from service.tasks.common import (
    Ability,
    Classification,
    ClassifyItem,
    ComposedTask,
    Content,
    Frame,
    Image,
    Label,
    Part,
    Task,
    Text,
    fingerprint,
)
from service.tasks.detection import (
    DetectedObject,
    Detections,
    DetectItem,
    Mask,
    MaskForm,
    ObjectPart,
)
from service.tasks.embedding import Embedding, EmbedItem, VectorForm
from service.tasks.generation import GenerateItem, Generation
from service.tasks.inference import Inference, InferItem
from service.tasks.tagging import Aggregate, TaggedSpan, Tagging, TagItem
from service.tasks.translation import (
    Alternative,
    FinishReason,
    KeptTerm,
    LiteralKind,
    TranslateItem,
    Translation,
)

AnyItem: TypeAlias = (
    ClassifyItem | TagItem | TranslateItem | GenerateItem | DetectItem | EmbedItem | InferItem
)
Answer: TypeAlias = (
    Classification | Tagging | Translation | Generation | Detections | Embedding | Inference
)

__all__ = [
    "Ability",
    "Aggregate",
    "Alternative",
    "Answer",
    "AnyItem",
    "Classification",
    "ClassifyItem",
    "ComposedTask",
    "Content",
    "DetectItem",
    "DetectedObject",
    "Detections",
    "EmbedItem",
    "Embedding",
    "FinishReason",
    "Frame",
    "GenerateItem",
    "Generation",
    "Image",
    "InferItem",
    "Inference",
    "KeptTerm",
    "Label",
    "LiteralKind",
    "Mask",
    "MaskForm",
    "ObjectPart",
    "Part",
    "TagItem",
    "TaggedSpan",
    "Tagging",
    "Task",
    "Text",
    "TranslateItem",
    "Translation",
    "VectorForm",
    "fingerprint",
]
