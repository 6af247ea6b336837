"""The families, by the name a manifest uses. A new family is one row here."""

from collections.abc import Mapping
from typing import Any, Final

from service.families.classifier import (
    ImageClassifierParameters,
    TextClassifierParameters,
    open_image_classifier,
    open_text_classifier,
    text_classifier_abilities,
)
from service.families.detector import DetectorParameters, open_detector
from service.families.detr_detector import DetrDetectorParameters, open_detr_detector
from service.families.dual_encoder import (
    DualEncoderParameters,
    dual_encoder_abilities,
    open_dual_encoder,
)
from service.families.family import FamilyEntry
from service.families.image_embedder import ImageEmbedderParameters, open_image_embedder
from service.families.segmenter import SegmenterParameters, open_segmenter
from service.families.set_segmenter import SetSegmenterParameters, open_set_segmenter
from service.families.sparse_embedder import SparseEmbedderParameters, open_sparse_embedder
from service.families.tensors.family import TensorsParameters, open_tensors
from service.families.text_embedder import (
    TextEmbedderParameters,
    open_text_embedder,
    text_embedder_abilities,
)
from service.families.token_classifier import TokenClassifierParameters, open_token_classifier
from service.families.torchvision_detector import (
    TorchvisionDetectorParameters,
    open_torchvision_detector,
)
from service.families.translation.in_flight import (
    EncoderDecoderStepsParameters,
    GeneratorStepsParameters,
    open_encoder_decoder_steps,
    open_generator_steps,
)
from service.families.translation.static import (
    EncoderDecoderParameters,
    GeneratorGraphsParameters,
    open_encoder_decoder,
    open_generator,
)
from service.tasks import Task

_TEXT: Final = frozenset({"text"})
_IMAGE: Final = frozenset({"image"})
_TENSOR: Final = frozenset({"tensor"})


FAMILIES: Final[Mapping[str, FamilyEntry[Any]]] = {
    "text_classifier": FamilyEntry(
        Task.CLASSIFY,
        _TEXT,
        TextClassifierParameters,
        open_text_classifier,
        text_classifier_abilities,
    ),
    "token_classifier": FamilyEntry(
        Task.TAG, _TEXT, TokenClassifierParameters, open_token_classifier
    ),
    "text_embedder": FamilyEntry(
        Task.EMBED, _TEXT, TextEmbedderParameters, open_text_embedder, text_embedder_abilities
    ),
    "sparse_embedder": FamilyEntry(
        Task.SPARSE, _TEXT, SparseEmbedderParameters, open_sparse_embedder
    ),
    "image_classifier": FamilyEntry(
        Task.CLASSIFY, _IMAGE, ImageClassifierParameters, open_image_classifier
    ),
    "encoder_decoder": FamilyEntry(
        Task.TRANSLATE, _TEXT, EncoderDecoderParameters, open_encoder_decoder
    ),
    "encoder_decoder_steps": FamilyEntry(
        Task.TRANSLATE, _TEXT, EncoderDecoderStepsParameters, open_encoder_decoder_steps
    ),
    "generator": FamilyEntry(Task.GENERATE, _TEXT, GeneratorGraphsParameters, open_generator),
    "generator_steps": FamilyEntry(
        Task.GENERATE, _TEXT, GeneratorStepsParameters, open_generator_steps
    ),
    "detector": FamilyEntry(Task.DETECT, _IMAGE, DetectorParameters, open_detector),
    "detr_detector": FamilyEntry(Task.DETECT, _IMAGE, DetrDetectorParameters, open_detr_detector),
    "segmenter": FamilyEntry(Task.DETECT, _IMAGE, SegmenterParameters, open_segmenter),
    "set_segmenter": FamilyEntry(Task.DETECT, _IMAGE, SetSegmenterParameters, open_set_segmenter),
    "torchvision_detector": FamilyEntry(
        Task.DETECT, _IMAGE, TorchvisionDetectorParameters, open_torchvision_detector
    ),
    "dual_encoder": FamilyEntry(
        Task.EMBED,
        _TEXT | _IMAGE,
        DualEncoderParameters,
        open_dual_encoder,
        dual_encoder_abilities,
    ),
    "image_embedder": FamilyEntry(Task.EMBED, _IMAGE, ImageEmbedderParameters, open_image_embedder),
    "tensors": FamilyEntry(Task.INFER, _TENSOR, TensorsParameters, open_tensors),
}
