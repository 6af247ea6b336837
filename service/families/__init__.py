"""The families, by the name a manifest uses. A new family is one row here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from service.families.detector import DetectorParameters, open_detector
from service.families.detr_detector import DetrDetectorParameters, open_detr_detector
from service.families.dual_encoder import DualEncoderParameters, open_dual_encoder
from service.families.family import FamilyEntry, Opened, ParametersT, Traits
from service.families.image_classifier import ImageClassifierParameters, open_image_classifier
from service.families.image_embedder import ImageEmbedderParameters, open_image_embedder
from service.families.text_classifier import TextClassifierParameters, open_text_classifier
from service.families.text_embedder import TextEmbedderParameters, open_text_embedder
from service.families.translation.in_flight import (
    EncoderDecoderSteps,
    EncoderDecoderStepsParameters,
)
from service.families.translation.static import EncoderDecoder, EncoderDecoderParameters
from service.tasks import Task, TranslateItem, Translation

_TEXT: Final = frozenset({"text"})
_IMAGE: Final = frozenset({"image"})


def _translator(
    open_family: Callable[[Path, ParametersT], EncoderDecoder | EncoderDecoderSteps],
) -> Callable[[Path, ParametersT], Opened[TranslateItem, Translation]]:
    def opened(folder: Path, parameters: ParametersT) -> Opened[TranslateItem, Translation]:
        one = open_family(folder, parameters)
        in_flight = one if isinstance(one, EncoderDecoderSteps) else None
        traits = Traits(
            split=one.split, plan=one.plan, languages=one.languages, in_flight=in_flight
        )
        return Opened(one, one, traits)

    return opened


FAMILIES: Final[Mapping[str, FamilyEntry[Any]]] = {
    "text_classifier": FamilyEntry(
        Task.CLASSIFY, _TEXT, TextClassifierParameters, open_text_classifier
    ),
    "text_embedder": FamilyEntry(Task.EMBED, _TEXT, TextEmbedderParameters, open_text_embedder),
    "image_classifier": FamilyEntry(
        Task.CLASSIFY, _IMAGE, ImageClassifierParameters, open_image_classifier
    ),
    "encoder_decoder": FamilyEntry(
        Task.TRANSLATE, _TEXT, EncoderDecoderParameters, _translator(EncoderDecoder.open)
    ),
    "encoder_decoder_steps": FamilyEntry(
        Task.TRANSLATE, _TEXT, EncoderDecoderStepsParameters, _translator(EncoderDecoderSteps.open)
    ),
    "detector": FamilyEntry(Task.DETECT, _IMAGE, DetectorParameters, open_detector),
    "detr_detector": FamilyEntry(Task.DETECT, _IMAGE, DetrDetectorParameters, open_detr_detector),
    "dual_encoder": FamilyEntry(
        Task.EMBED, _TEXT | _IMAGE, DualEncoderParameters, open_dual_encoder
    ),
    "image_embedder": FamilyEntry(Task.EMBED, _IMAGE, ImageEmbedderParameters, open_image_embedder),
}
