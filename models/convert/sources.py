"""Where a checkpoint comes from: a folder, or a model on a Hugging Face hub."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from models.convert.errors import CheckpointError

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_DESCRIBING = ["*.json", "*.txt", "*.model", "*.spm"]
_SAFE = ["*.safetensors"]
_PICKLED = ["pytorch_model*.bin"]
_EXPORTS = ["onnx/*", "openvino/*"]
"""Exports of other tools next to the weights."""


def fetch(source: str, revision: str | None = None) -> Path:
    """Return the folder of a checkpoint, downloaded first if the source names one on a hub.

    huggingface_hub does it, so its environment holds: `HF_ENDPOINT` (another hub), `HF_TOKEN`,
    `HF_HUB_OFFLINE` (only what was downloaded before), `HF_HOME` (where to), with its progress
    bars. Pickled weights are downloaded only where there are no safetensors.

    Args:
        source: a folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub; None means its main branch.

    Raises:
        CheckpointError: there is no such folder and no such model, or the hub cannot be reached.
    """
    if Path(source).is_dir():
        return Path(source)
    if not _HUB_ID.fullmatch(source):
        raise CheckpointError(f"{source} is no folder, and cannot be a model's name on a hub")
    folder = _downloaded(source, revision, [*_DESCRIBING, *_SAFE])
    if any(folder.glob("*.safetensors")):
        return folder
    return _downloaded(source, revision, [*_DESCRIBING, *_PICKLED])


def _downloaded(name: str, revision: str | None, patterns: list[str]) -> Path:
    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=patterns, ignore_patterns=_EXPORTS
        )
    except LocalEntryNotFoundError:
        raise CheckpointError(
            f"{name} is no folder, was not downloaded before, and the hub cannot be reached"
        ) from None
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{name} cannot be downloaded: {reason}") from None
    return Path(folder)
