"""TranslatorGraphs with the inputs and outputs that Optimum gives such graphs, cache and all."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.families.translation.static import CacheKind
from service.types import DeviceValue, Feed, Feeds, TensorSpec
from tests.unit.families.sessions import Arrays, Kept, NumpySession, TranslatorGraphs


@dataclass(frozen=True)
class Copyable(Kept):
    """A value on the device whose rows are chosen on the host, for want of an input for it."""

    def numpy(self) -> NDArray[Any]:
        return self._array


class CopyingSession(NumpySession):
    def run_kept(
        self, feeds: Mapping[str, Feed], host: Collection[str]
    ) -> tuple[Feeds, Mapping[str, DeviceValue]]:
        outputs, kept = super().run_kept(feeds, host)
        return outputs, {name: Copyable(value._array) for name, value in kept.items()}


class ExportedTranslator(TranslatorGraphs):
    """One translator as each of the three sets of graphs; `fed` tells which cache was asked."""

    def sessions_of(self, kind: CacheKind) -> dict[str, NumpySession]:
        ids = {"input_ids": TensorSpec("int64", (None, None))}
        mask = {"encoder_attention_mask": TensorSpec("int64", (None, None))}
        states = {"encoder_hidden_states": TensorSpec("float32", (None, None, None))}
        past = {
            name: TensorSpec("float32", (None, self.heads, None, self.width))
            for name in (f"{p}.key" for p in ("past_key_values.0.decoder", _CROSS))
        }
        found: dict[str, NumpySession] = {"encoder": CopyingSession(self._encode)}
        match kind:
            case "none":
                found["decoder"] = CopyingSession(self._whole, ids | mask | states)
            case "pair":
                found["decoder"] = CopyingSession(self._begin, ids | mask | states)
                found["decoder_with_past"] = CopyingSession(self._go_on, ids | mask | past)
            case "merged":
                branch = {"use_cache_branch": TensorSpec("bool", (1,))}
                inputs = ids | mask | states | past | branch
                found["decoder"] = CopyingSession(self._merged, inputs)
        return found

    def _encode(self, feeds: Arrays) -> Arrays:
        ids, mask = feeds["input_ids"], feeds["attention_mask"]
        return {"last_hidden_state": np.where(mask == 1, ids, 9)[:, :, None].astype(np.float32)}

    def _whole(self, feeds: Arrays) -> Arrays:
        ids = feeds["input_ids"]
        source, mask = feeds["encoder_hidden_states"][:, :, 0], feeds["encoder_attention_mask"]
        rows = zip(ids, source.astype(np.int64), mask, strict=True)
        last = [self.next_logprobs(read[seen == 1], row.tolist()) for row, read, seen in rows]
        logits = np.full((*ids.shape, len(last[0])), 1e3, np.float32)  # but the last are unused
        logits[:, -1] = last
        return {"logits": logits}

    def _begin(self, feeds: Arrays) -> Arrays:
        assert feeds["input_ids"].shape[1] == 1
        states = feeds["encoder_hidden_states"]
        cross = np.repeat(states[:, None], self.heads, axis=1)
        return {**self._step(feeds, feeds["input_ids"], states), f"present.{_ENCODER}.key": cross}

    def _go_on(self, feeds: Arrays) -> Arrays:
        assert feeds["input_ids"].shape[1] == 1
        before = feeds["past_key_values.0.decoder.key"][:, 0, :, 0].astype(np.int64)
        written = np.concatenate([before, feeds["input_ids"]], axis=1)
        return self._step(feeds, written, feeds[f"{_CROSS}.key"][:, 0])

    def _merged(self, feeds: Arrays) -> Arrays:
        if not feeds["use_cache_branch"][0]:
            return self._begin(feeds)
        nothing = np.zeros((0, self.heads, 1, self.width), np.float32)
        return {**self._go_on(feeds), f"present.{_ENCODER}.key": nothing}

    def _step(self, feeds: Arrays, written: NDArray[Any], states: NDArray[Any]) -> Arrays:
        """The cache's keys are the very ids that were written."""
        whole = {"input_ids": written, "encoder_hidden_states": states[:, :, :1]}
        logits = self._whole({**feeds, **whole})["logits"][:, -1:]
        shape = (len(written), self.heads, written.shape[1], self.width)
        present = np.broadcast_to(written[:, None, :, None], shape).astype(np.float32)
        return {"logits": logits, "present.0.decoder.key": present}


_ENCODER = "0.encoder"
_CROSS = f"past_key_values.{_ENCODER}"
