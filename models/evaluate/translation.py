"""Measures of texts that were written; `zh-en` on everyday sentences, prose and news."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from models.datasets.files import data_folder, read_jsonl
from models.evaluate.measures import Measure
from models.evaluate.scores import rouge_l
from models.evaluate.served import Served
from service.tasks import TranslateItem, Translation

TEST_SETS = {
    "tatoeba": "tatoeba_zh_en",
    "pydocs": "pydocs_zh_en",
    "NTREX": "ntrex_zh_en_eval",
}


async def measure_zh_en(served: Served, data: Path) -> list[Measure]:
    """Translate every test sentence of the three sets with the model's own search."""
    measures: list[Measure] = []
    for title, folder in TEST_SETS.items():
        rows = read_jsonl(data_folder(data, folder) / "test.jsonl.gz")
        items = [TranslateItem(row["zh"]) for row in rows]
        answers = await served.answers(items, title)
        texts = [answer.text for answer in answers if isinstance(answer, Translation)]
        references = aligned_references([row.get("refs") or [row["en"]] for row in rows])
        measures += [
            Measure(f"{title}: sacreBLEU", BLEU().corpus_score(texts, references).score, 2),
            Measure(f"{title}: chrF", CHRF().corpus_score(texts, references).score, 2),
        ]
    return measures


def aligned_references(references: list[list[str]]) -> list[list[str | None]]:
    """Turn the references of each sentence into as many streams as the richest sentence has.

    A sentence with fewer has None in the later streams, which sacreBLEU leaves out.
    """
    most = max(len(own) for own in references)
    return [[own[at] if at < len(own) else None for own in references] for at in range(most)]


_TOKENIZERS: Final = {
    **dict.fromkeys(("zh", "zho"), "zh"),
    **dict.fromkeys(("ja", "jpn", "ko", "kor", "th", "tha"), "char"),
}
"""sacreBLEU's, by the language that is written, where words are not between spaces."""


def translation_measures(
    texts: Sequence[str], references: list[list[str | None]], target: str
) -> list[Measure]:
    """Compare translations into a language with their references, as `aligned_references`."""
    bleu = BLEU(tokenize=_TOKENIZERS.get(re.split("[-_]", target)[0].lower(), "13a"))
    return [
        Measure("sacreBLEU", bleu.corpus_score(texts, references).score, 2),
        Measure("chrF", CHRF().corpus_score(texts, references).score, 2),
    ]


def generation_measures(texts: Sequence[str], references: Sequence[Sequence[str]]) -> list[Measure]:
    """Compare texts, such as summaries, with the references of each."""
    overlaps = [rouge_l(text, own) for text, own in zip(texts, references, strict=True)]
    aligned = aligned_references([list(own) for own in references])
    return [
        Measure("ROUGE-L", 100 * float(np.mean(overlaps)), 2),
        Measure("chrF", CHRF().corpus_score(texts, aligned).score, 2),
    ]
