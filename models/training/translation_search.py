"""Finding a translation with the PyTorch network: the reference for what serving answers."""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from models.training.translation_model import BOS_ID, EOS_ID, PAD_ID, KeysAndValues, Translator


def pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and mask, both [B, longest row], padded on the right."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *([PAD_ID] * (longest - len(row)))] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return ids, (torch.arange(longest) < lengths[:, None]).long()


@torch.inference_mode()
def translate_greedily(
    model: Translator, rows: Sequence[Sequence[int]], max_length: int
) -> list[list[int]]:
    """The most probable token at every step, without ``</s>``; one batch."""
    source_ids, mask = pad(rows)
    source = model.encode(source_ids, mask)
    token = torch.full((len(rows), 1), BOS_ID)
    done = torch.zeros(len(rows), dtype=torch.bool)
    past: list[KeysAndValues] | None = None
    taken: list[Tensor] = []
    for _ in range(max_length):
        states, past = model.decode(token, source, mask, past)
        token = model.logits(states[:, -1]).argmax(dim=-1, keepdim=True)
        taken.append(token[:, 0].masked_fill(done, EOS_ID))
        done |= token[:, 0] == EOS_ID
        if done.all():
            break
    return [_until_end(row) for row in torch.stack(taken, dim=1).tolist()]


def _until_end(ids: list[int]) -> list[int]:
    return ids[: ids.index(EOS_ID)] if EOS_ID in ids else ids


def translate_all(
    model: Translator,
    source: Tokenizer,
    target: Tokenizer,
    texts: Sequence[str],
    max_length: int,
    batch_size: int = 64,
) -> list[str]:
    """Greedy translations of many texts, in their order; batched by length for speed."""
    rows = [encoding.ids for encoding in source.encode_batch_fast(list(texts))]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    answers = [""] * len(rows)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        found = translate_greedily(model, [rows[index] for index in chosen], max_length)
        for index, text in zip(chosen, target.decode_batch(found), strict=True):
            answers[index] = text
    return answers
