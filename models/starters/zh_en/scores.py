"""How well an exported translator translates, through the code that serves it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from models.datasets.translation import EvaluationSet
from models.evaluate.translation import aligned_references
from service.families import FAMILIES
from service.families.translation.search.decoding import Decoding
from service.repository.manifest import MANIFEST_NAME, read_manifest, read_parameters
from service.runtime.providers import Device
from service.runtime.session import OrtSession
from service.tasks import TranslateItem


def open_translator(folder: Path, precision: str) -> Callable[[Sequence[str], Decoding], list[str]]:
    """Return what translates as serving does, with the files of a version's folder."""
    manifest = read_manifest(folder / MANIFEST_NAME)
    entry = FAMILIES[manifest.family]
    family = entry.open(folder, read_parameters(manifest.parameters, entry.parameters))
    processor, model = family.processor, family.model
    files = {str(known): graphs for known, graphs in manifest.graphs.items()}[precision]
    sessions = {name: OrtSession(folder / file, Device("cpu"), 1) for name, file in files.items()}

    def translate(texts: Sequence[str], decoding: Decoding) -> list[str]:
        items = [TranslateItem(text, num_beams=decoding.num_beams) for text in texts]
        order = sorted(range(len(items)), key=lambda index: len(texts[index]))
        answers = [""] * len(items)
        for start in range(0, len(order), 32):
            chosen = order[start : start + 32]
            works = [processor.preprocess(items[index]) for index in chosen]
            for index, result in zip(chosen, model.infer(sessions, works), strict=True):
                answers[index] = processor.postprocess(result, items[index]).text
        return answers

    return translate


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of the translations of an evaluation set, computed by sacreBLEU."""

    bleu: float
    chrf: float


def scores(translations: Sequence[str], references: EvaluationSet) -> Scores:
    """BLEU (13a, mixed case) and chrF against one or more references a sentence."""
    aligned = aligned_references(references.references)
    return Scores(
        BLEU().corpus_score(translations, aligned).score,
        CHRF().corpus_score(translations, aligned).score,
    )
