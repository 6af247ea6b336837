"""The families there are, by the name a manifest uses. A new family is one row here."""

from collections.abc import Mapping
from typing import Any, Final

from service.families.base import FamilyEntry
from service.families.detector import Detector, DetectorParameters
from service.families.detr_detector import DetrDetector, DetrDetectorParameters
from service.families.dual_encoder import DualEncoder, DualEncoderParameters
from service.families.image_classifier import ImageClassifier, ImageClassifierParameters
from service.families.image_embedder import ImageEmbedder, ImageEmbedderParameters
from service.families.text_classifier import TextClassifier, TextClassifierParameters
from service.families.text_embedder import TextEmbedder, TextEmbedderParameters
from service.families.translation.in_flight import (
    EncoderDecoderSteps,
    EncoderDecoderStepsParameters,
)
from service.families.translation.static import EncoderDecoder, EncoderDecoderParameters
from service.tasks import Task

_TEXT: Final = frozenset({"text"})
_IMAGE: Final = frozenset({"image"})

FAMILIES: Final[Mapping[str, FamilyEntry[Any]]] = {
    "text_classifier": FamilyEntry(
        Task.CLASSIFY, TextClassifierParameters, TextClassifier.open, _TEXT
    ),
    "text_embedder": FamilyEntry(Task.EMBED, TextEmbedderParameters, TextEmbedder.open, _TEXT),
    "image_classifier": FamilyEntry(
        Task.CLASSIFY, ImageClassifierParameters, ImageClassifier.open, _IMAGE
    ),
    "encoder_decoder": FamilyEntry(
        Task.TRANSLATE, EncoderDecoderParameters, EncoderDecoder.open, _TEXT
    ),
    "encoder_decoder_steps": FamilyEntry(
        Task.TRANSLATE, EncoderDecoderStepsParameters, EncoderDecoderSteps.open, _TEXT
    ),
    "detector": FamilyEntry(Task.DETECT, DetectorParameters, Detector.open, _IMAGE),
    "detr_detector": FamilyEntry(Task.DETECT, DetrDetectorParameters, DetrDetector.open, _IMAGE),
    "dual_encoder": FamilyEntry(
        Task.EMBED, DualEncoderParameters, DualEncoder.open, _TEXT | _IMAGE
    ),
    "image_embedder": FamilyEntry(Task.EMBED, ImageEmbedderParameters, ImageEmbedder.open, _IMAGE),
}
