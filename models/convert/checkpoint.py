"""A checkpoint on disk as a PyTorch model: weights are read, nothing is unpickled, no code run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from models.convert.errors import CheckpointError

SAFE, PICKLED = "*.safetensors", "*.bin"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model as its authors published it."""

    folder: Path
    model: Any
    """A transformers model in evaluation mode, in fp32."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Return config.json as transformers completed it."""
        table: Mapping[str, Any] = self.model.config.to_dict()
        return table

    @property
    def is_translator(self) -> bool:
        """Tell whether it has an encoder, and a decoder that goes on from its own words."""
        return bool(self.model.config.is_encoder_decoder)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Load the model that a folder holds, in fp32 on the CPU.

    Safetensors are preferred. A `.bin` file is read with `weights_only=True`, which refuses
    every pickle that holds more than tensors. Code next to the weights is never run.

    Raises:
        CheckpointError: the folder holds no such model, or holds one that cannot be read.
    """
    kind = _class_of(folder)
    safe = any(folder.glob(SAFE))
    if not safe and not any(folder.glob(PICKLED)):
        raise CheckpointError(f"{folder.name} holds no weights: neither {SAFE} nor {PICKLED}")
    try:
        model, loading = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=safe,
            weights_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # of many libraries' kinds; all mean the same to who asked
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{folder.name} cannot be loaded: {reason}") from error
    if missing := sorted(loading["missing_keys"]):
        raise CheckpointError(
            f"{folder.name} holds no {', '.join(missing[:3])}"
            f"{' and others' if len(missing) > 3 else ''}, which would be random"
        )
    return Checkpoint(folder, model.eval())


def _class_of(folder: Path) -> type[PreTrainedModel]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{folder.name} has no config.json") from None
    except ValueError as error:
        raise CheckpointError(f"{folder.name}: config.json is not JSON: {error}") from None
    named = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(named, list) or not named:
        raise CheckpointError(f"{folder.name}: config.json names no architectures")
    kind = getattr(transformers, str(named[0]), None)
    if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel)):
        raise CheckpointError(
            f"{folder.name}: {named[0]} is not an architecture of transformers "
            f"{transformers.__version__}, and code next to the weights is not run"
        )
    return kind
