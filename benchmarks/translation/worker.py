"""One side of the static comparison, in a process of its own that sleeps while others are timed.

    python -m benchmarks.translation.worker ENGINE FOLDER WORKERS THREADS

It reads lines of JSON, `{"texts": [...], "batch": 8, "beams": 1}`, translates the texts in batches
of that size, in order, and writes `{"seconds": ..., "cpu": ..., "answers": [...]}`.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ctranslate2

from benchmarks.translation.ctranslate2_texts import MOST_TOKENS, Texts
from benchmarks.translation.findings import CTRANSLATE2
from service.families import FAMILIES
from service.families.translation.in_flight import translated
from service.repository.manifest import read_manifest, read_parameters
from service.runtime.providers import Device
from service.runtime.session import OrtSession
from service.tasks import TranslateItem
from service.types import PreparedItem, Tensors

Batch = Sequence[str]
Translate = Callable[[Batch, int], Sequence[str]]


def open_quartet(folder: Path, threads: int) -> Translate:
    """Return the service's own family on its own sessions, without the service round it.

    A thread has rows of its own and keeps them, as an instance of the service does.
    """
    manifest = read_manifest(folder / "model.toml")
    entry = FAMILIES[manifest.family]
    family = entry.open(folder, read_parameters(manifest.parameters, entry.parameters))
    graphs = manifest.graphs[manifest.default_precision["cpu"]]
    device = Device("cpu")
    sessions = {name: OrtSession(folder / file, device, threads) for name, file in graphs.items()}
    kept = threading.local()

    in_flight: Any = family.traits.in_flight

    def infer(batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        if in_flight is None:
            return family.model.infer(sessions, batch)
        if not hasattr(kept, "rows"):
            kept.rows = in_flight.open_rows()
        return translated(kept.rows, sessions, batch)

    def translate(batch: Batch, beams: int) -> Sequence[str]:
        items = [TranslateItem(text, num_beams=beams) for text in batch]
        results = infer([family.processor.preprocess(item) for item in items])
        answers = [family.processor.postprocess(*pair) for pair in zip(results, items, strict=True)]
        return [answer.text for answer in answers]

    return translate


def open_ctranslate2(folder: Path, workers: int, threads: int) -> Translate:
    """Return CTranslate2, int8, with its own workers."""
    texts = Texts(folder)
    translator = ctranslate2.Translator(
        str(folder), compute_type="int8", inter_threads=workers, intra_threads=threads
    )

    def translate(batch: Batch, beams: int) -> Sequence[str]:
        results = translator.translate_batch(
            [texts.tokens(text) for text in batch],
            beam_size=beams,
            max_decoding_length=MOST_TOKENS,
        )
        return [texts.text(result.hypotheses[0]) for result in results]

    return translate


def main() -> None:
    """Answer lines until there are no more."""
    engine, folder, workers, threads = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:5])
    if engine == CTRANSLATE2:
        translate = open_ctranslate2(folder, workers, threads)
    else:
        translate = open_quartet(folder, threads)
    with ThreadPoolExecutor(workers) as pool:
        for line in sys.stdin:
            asked = json.loads(line)
            texts, size, beams = asked["texts"], asked["batch"], asked["beams"]
            batches = [texts[start : start + size] for start in range(0, len(texts), size)]
            started, cpu = time.perf_counter(), time.process_time()
            found = list(pool.map(lambda batch, beams=beams: translate(batch, beams), batches))
            seconds, used = time.perf_counter() - started, time.process_time() - cpu
            answers = [answer for batch in found for answer in batch]
            sys.stdout.write(json.dumps({"seconds": seconds, "cpu": used, "answers": answers}))
            sys.stdout.write("\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
