"""Train the starter translator, Chinese to English, on a CPU.

``python -m models.starters.zh_en.back_translate --data DIR --out runs/zh-en --minutes 20``
``python -m models.starters.zh_en.train --data DIR --out runs/zh-en --minutes 64``
"""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from sacrebleu.metrics.bleu import BLEU
from tokenizers import Tokenizer
from torch.nn import functional as F  # noqa: N812  (torch's own convention)
from tqdm import tqdm

from models.datasets.files import Pair
from models.datasets.translation import (
    Corpora,
    EvaluationSet,
    Shares,
    TokenPair,
    batches_of_tokens,
    read_corpora,
    read_evaluation_set,
    sample_epoch,
    tokenize_pairs,
    train_source_tokenizer,
    train_target_tokenizer,
)
from models.evaluate.translation import aligned_references
from models.pace import Pace, WeightAverage, decayed_groups, mixed_precision
from models.starters.curves import CURVES, Curves
from models.starters.zh_en.model import BOS_ID, Translator, TranslatorSizes
from models.starters.zh_en.search import (
    Tokenizers,
    TorchSteps,
    pad,
    translate_all,
)
from service.families.translation.search.decoding import Decoding

SOURCE_VOCABULARY = 4200
TARGET_VOCABULARY = 3600
MAX_TARGET_LENGTH = 96
LAST_PART = 0.5
BACK_TRANSLATED = "back_translated.jsonl"
"""What `back_translate` writes and `train` reads, in the folder of the run."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """The numbers of one training run."""

    minutes: float
    seed: int = 1
    peak_rate: float = 1.5e-3
    dropout: float = 0.2
    label_smoothing: float = 0.1
    merge_dropout: float = 0.1
    weight_decay: float = 0.01
    batch_tokens: int = 1800
    longest: int = 80
    shares: Shares = field(default_factory=Shares)
    last: Shares = field(default_factory=lambda: Shares(back_translated=5000))
    """Of the epochs that begin after `LAST_PART`, which see less of what a machine wrote."""
    is_reverse: bool = False
    """Whether it learns to translate into Chinese."""
    clip: float = 1.0
    minutes_between_checks: float = 6.0


def bleu(translations: list[str], references: list[list[str]], *, is_chinese: bool) -> float:
    """SacreBLEU of the translations against one or more references each."""
    return (
        BLEU(tokenize="zh" if is_chinese else "13a")
        .corpus_score(translations, aligned_references(references))
        .score
    )


def training_loss(model: Translator, batch: list[TokenPair], smoothing: float) -> torch.Tensor:
    """Mean smoothed cross-entropy of the next target token, padding left out."""
    source_ids, mask = pad([pair.source for pair in batch])
    expected, expected_mask = pad([pair.target for pair in batch])
    given = torch.cat([torch.full((len(batch), 1), BOS_ID), expected[:, :-1]], dim=1)
    with mixed_precision():
        states, _ = model.decode(given, model.encode(source_ids, mask), mask)
        real = expected_mask.bool()
        logits = model.logits(states[real])
    return F.cross_entropy(logits.float(), expected[real], label_smoothing=smoothing)


class Training:
    """One run: it can be stopped at any time and continued from its last checkpoint."""

    def __init__(self, plan: TrainingPlan, data: Path, out: Path, *, resumed: bool = False) -> None:
        self.plan, self.out = plan, out
        made = out / BACK_TRANSLATED
        self.corpora: Corpora = read_corpora(data, made if made.exists() else None)
        self.held_out = read_evaluation_set(data / "tatoeba_zh_en" / "dev.jsonl.gz")
        out.mkdir(parents=True, exist_ok=True)
        if not resumed:
            self._train_tokenizers()
        names = ["source_tokenizer.json", "target_tokenizer.json"]
        if plan.is_reverse:
            names.reverse()
            held_out, english = self.held_out, [one[0] for one in self.held_out.references]
            self.held_out = EvaluationSet(english, [[text] for text in held_out.zh])
        self.source, self.target = (Tokenizer.from_file(str(out / name)) for name in names)
        torch.manual_seed(plan.seed)
        sizes = TranslatorSizes(self.source.get_vocab_size(), self.target.get_vocab_size())
        self.model = Translator(sizes, plan.dropout)
        self.average = WeightAverage(self.model)
        groups = decayed_groups(self.model, plan.weight_decay)
        self.optimizer = torch.optim.AdamW(
            groups, lr=plan.peak_rate, betas=(0.9, 0.98), eps=1e-9, fused=True
        )
        self.pace = Pace(plan.minutes, warmup=0.04, longest_step=120.0)
        self.curves = Curves("zh-en")
        self.step, self.epoch, self.best = 0, 0, -1.0
        if resumed:
            self._resume()

    def _train_tokenizers(self) -> None:
        source = train_source_tokenizer(self.corpora, SOURCE_VOCABULARY)
        target = train_target_tokenizer(self.corpora, TARGET_VOCABULARY)
        source.save(str(self.out / "source_tokenizer.json"), pretty=False)
        target.save(str(self.out / "target_tokenizer.json"), pretty=False)

    def run(self) -> None:
        """Train until the time is over; the best checkpoint by dev BLEU stays in ``best.pt``."""
        next_check = self.pace.progress() + self.plan.minutes_between_checks / self.plan.minutes
        losses: list[float] = []
        with tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed} {postfix}") as bar:
            for batch in self._batches():
                progress = self.pace.progress()
                if progress >= 1.0:
                    break
                losses.append(self._train_on(batch, progress))
                if progress >= next_check:
                    next_check = progress + self.plan.minutes_between_checks / self.plan.minutes
                    self._check(progress, losses)
                    losses.clear()
                    bar.set_postfix_str(f"epoch {self.epoch} step {self.step} best {self.best:.2f}")
                    bar.update(100 * progress - bar.n)
        self._check(1.0, losses)

    def _batches(self) -> Iterator[list[TokenPair]]:
        plan = self.plan
        while True:
            seed = 1000 * plan.seed + self.epoch
            torch.manual_seed(seed)
            is_last = self.pace.progress() > LAST_PART
            pairs = sample_epoch(self.corpora, plan.last if is_last else plan.shares, seed)
            if plan.is_reverse:
                pairs = [Pair(pair.en, pair.zh) for pair in pairs]
            tokens = tokenize_pairs(pairs, self.source, self.target, plan.merge_dropout)
            yield from batches_of_tokens(tokens, plan.batch_tokens, plan.longest, seed)
            self.epoch += 1

    def _train_on(self, batch: list[TokenPair], progress: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.peak_rate * self.pace.rate(progress)
        loss = training_loss(self.model, batch, self.plan.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip)
        self.optimizer.step()
        self.average.update(self.model)
        self.step += 1
        return loss.item()

    def _check(self, progress: float, losses: list[float]) -> None:
        """Measure the averaged weights on dev; keep them if they are the best; draw the curve."""
        averaged = self.average.module
        answers = translate_all(
            TorchSteps(averaged),
            Tokenizers(self.source, self.target),
            self.held_out.zh,
            Decoding(1, 1.0, MAX_TARGET_LENGTH),
        )
        score = bleu(answers, self.held_out.references, is_chinese=self.plan.is_reverse)
        mean_loss = sum(losses) / max(1, len(losses))
        minute = progress * self.plan.minutes
        self.curves.record(minute, loss={"train": mean_loss}, bleu={"dev, greedy": score})
        if not self.plan.is_reverse:
            self.curves.draw(CURVES / "zh-en.png", xlabel="minutes")
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as log:
            entry = {"minute": minute, "step": self.step, "epoch": self.epoch}
            log.write(json.dumps({**entry, "loss": mean_loss, "dev_bleu": score}) + "\n")
        state = {"sizes": asdict(averaged.sizes), "weights": averaged.state_dict(), "dev": score}
        if score > self.best:
            self.best = score
            torch.save(state, self.out / "best.pt")
        self._save(progress)

    def _save(self, progress: float) -> None:
        """Write everything that `_resume` needs, never leaving half a file."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "panels": self.curves.panels,
            "counts": (self.step, self.epoch, self.best, progress),
        }
        torch.save(state, self.out / "last.pt.part")
        (self.out / "last.pt.part").replace(self.out / "last.pt")

    def _resume(self) -> None:
        """Continue from ``last.pt``, with the time that was left then."""
        state = torch.load(self.out / "last.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.module.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.curves.panels = state["panels"]
        self.step, self.epoch, self.best, progress = state["counts"]
        self.pace.elapsed = progress * 60 * self.plan.minutes


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=64.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="continue from OUT/last.pt")
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(1)
    plan = TrainingPlan(options.minutes, options.seed)
    Training(plan, options.data, options.out, resumed=options.resume).run()


if __name__ == "__main__":
    main()
