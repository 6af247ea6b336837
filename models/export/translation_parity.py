"""Whether the exported translator answers as the PyTorch network does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from models.evaluation.translation import aligned_references
from models.export.translation_graphs import cache_names
from models.training.translation_data import EvaluationSet
from models.training.translation_model import TranslatorSizes
from models.training.translation_search import Ids, Steps, pad, search
from service.families.decoding import Decoding
from service.families.seq2seq_steps import Seq2SeqSteps, Seq2SeqStepsParameters
from service.repository.manifest import MANIFEST_NAME, read_manifest, read_parameters
from service.runtime.devices import Device
from service.runtime.session import OrtSession
from service.tasks import TranslateItem

Arrays = Mapping[str, NDArray[np.generic]]


def open_session(path: Path, threads: int = 1) -> ort.InferenceSession:
    """Load a graph on the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class OnnxSteps:
    """Steps of an exported translator: the two graphs, used as serving uses them."""

    def __init__(self, encoder: Path, decoder: Path, sizes: TranslatorSizes) -> None:
        self.sizes = sizes
        self._encoder, self._decoder = open_session(encoder), open_session(decoder)
        self._cross_names = cache_names("cross", sizes.decoder_layers)
        self._past_names = cache_names("past", sizes.decoder_layers)
        self._cross: dict[str, NDArray[np.generic]] = {}
        self._past: dict[str, NDArray[np.generic]] = {}

    def begin(self, rows: Sequence[Sequence[int]]) -> None:
        """Encode the sentences, given as token ids, and forget what was before."""
        ids, mask = (tensor.numpy() for tensor in pad(rows))
        cross = self._encoder.run(self._cross_names, {"input_ids": ids, "attention_mask": mask})
        self._cross = dict(zip(self._cross_names, cross, strict=True))
        self._cross["encoder_attention_mask"] = mask
        shape = (len(rows), self.sizes.heads, 0, self.sizes.head_width)
        self._past = dict.fromkeys(self._past_names, np.zeros(shape, dtype=np.float32))

    def step(self, tokens: Ids, beam_idx: Ids, sentence_idx: Ids) -> NDArray[np.float32]:
        """Log-probabilities [N, V] after one more token of each of N rows."""
        rows = {"beam_idx": beam_idx, "sentence_idx": sentence_idx}
        feeds = {"input_ids": tokens[:, None], **rows, **self._cross, **self._past}
        logprobs, *present = self._decoder.run(None, feeds)
        self._past = dict(zip(self._past_names, present, strict=True))
        answer: NDArray[np.float32] = logprobs
        return answer


def open_translator(folder: Path, precision: str) -> Callable[[Sequence[str], Decoding], list[str]]:
    """Return what translates as serving does, with the files of a version's folder."""
    manifest = read_manifest(folder / MANIFEST_NAME)
    parameters = read_parameters(manifest.parameters, Seq2SeqStepsParameters)
    family = Seq2SeqSteps.open(folder, parameters)
    files = {str(known): graphs for known, graphs in manifest.graphs.items()}[precision]
    sessions = {name: OrtSession(folder / file, Device("cpu"), 1) for name, file in files.items()}

    def translate(texts: Sequence[str], decoding: Decoding) -> list[str]:
        items = [TranslateItem(text, num_beams=decoding.num_beams) for text in texts]
        order = sorted(range(len(items)), key=lambda index: len(texts[index]))
        answers = [""] * len(items)
        for start in range(0, len(order), 32):
            chosen = order[start : start + 32]
            works = [family.preprocess(items[index]) for index in chosen]
            for index, result in zip(chosen, family.infer(sessions, works), strict=True):
                answers[index] = family.postprocess(result, items[index]).text
        return answers

    return translate


@dataclass(slots=True)
class ComparedSteps:
    """Two decoders led through the same search by the first; keeps the largest difference."""

    leader: Steps
    follower: Steps
    largest_difference: float = 0.0

    def begin(self, rows: Sequence[Sequence[int]]) -> None:
        """Begin both."""
        self.leader.begin(rows)
        self.follower.begin(rows)

    def step(self, tokens: Ids, beam_idx: Ids, sentence_idx: Ids) -> NDArray[np.float32]:
        """Step both; the leader's answer decides."""
        expected = self.leader.step(tokens, beam_idx, sentence_idx)
        answered = self.follower.step(tokens, beam_idx, sentence_idx)
        self.largest_difference = max(
            self.largest_difference, float(np.abs(expected - answered).max())
        )
        return expected


@dataclass(frozen=True, slots=True)
class Parity:
    """How far two decoders are from one another."""

    sentences: int
    different: int
    """Sentences for which the searches found other tokens."""
    logprobs: float
    """Largest absolute difference of a log-probability along the leader's searches."""


def compare(
    leader: Steps, follower: Steps, rows: Sequence[Sequence[int]], decoding: Decoding
) -> Parity:
    """Search with each alone, and with both along the leader's choices, in batches of 16."""
    compared = ComparedSteps(leader, follower)
    different = 0
    for start in range(0, len(rows), 16):
        batch = rows[start : start + 16]
        expected = search(compared, batch, decoding)
        found = search(follower, batch, decoding)
        different += sum(a != b for a, b in zip(expected, found, strict=True))
    return Parity(len(rows), different, compared.largest_difference)


@dataclass(frozen=True, slots=True)
class Scores:
    """Of the translations of an evaluation set, as sacreBLEU computes them."""

    bleu: float
    chrf: float


def scores(translations: Sequence[str], references: EvaluationSet) -> Scores:
    """BLEU (13a, mixed case) and chrF against one or more references a sentence."""
    aligned = aligned_references(references.references)
    return Scores(
        BLEU().corpus_score(translations, aligned).score,
        CHRF().corpus_score(translations, aligned).score,
    )
