"""Train a translator from English to Chinese, and make pairs of English sentences with it.

``python -m models.starters.zh_en.back_translate --data DIR --out runs/zh-en --minutes 20``

It translates the English side of Tatoeba, so that each sentence has a second Chinese form, and
what people say to assistants, which has none. See Sennrich et al. 2016, "Improving Neural Machine
Translation Models with Monolingual Data".
"""

import argparse
import json
import os
from pathlib import Path

import torch
from tqdm import tqdm

from models.datasets.everyday import english_sentences
from models.starters.zh_en.model import load_translator
from models.starters.zh_en.search import Tokenizers, TorchSteps, translate_all
from models.starters.zh_en.train import (
    BACK_TRANSLATED,
    MAX_TARGET_LENGTH,
    Training,
    TrainingPlan,
)
from service.families.translation.search.decoding import Decoding

_PART = 2000


def main() -> None:
    """Read the command line, train and translate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--resume", action="store_true", help="continue from its last.pt")
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(1)
    plan, folder = TrainingPlan(options.minutes, is_reverse=True), options.out / "reverse"
    training = Training(plan, options.data, folder, resumed=options.resume)
    training.run()
    steps = TorchSteps(load_translator(options.out / "reverse" / "best.pt"))
    cased = [pair.en for pair in training.corpora.sentences]
    texts = list(dict.fromkeys([*cased, *english_sentences(options.data, cased)]))
    tokenizers = Tokenizers(training.source, training.target)
    with (options.out / BACK_TRANSLATED).open("w", encoding="utf-8") as made:
        for start in tqdm(range(0, len(texts), _PART), desc="translate"):
            part = texts[start : start + _PART]
            found = translate_all(steps, tokenizers, part, Decoding(1, 1.0, MAX_TARGET_LENGTH))
            for en, zh in zip(part, found, strict=True):
                if zh.strip():
                    made.write(json.dumps({"zh": zh, "en": en}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
