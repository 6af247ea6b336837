"""Models of the Hugging Face Hub, by `huggingface_hub`, whose environment holds.

`HF_ENDPOINT` (another Hub), `HF_TOKEN` and `HF_TOKEN_PATH` (a token, or its file), `HF_HUB_OFFLINE`
and `HF_HUB_DOWNLOAD_TIMEOUT` are read by that package.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from warnings import catch_warnings

from service.errors import ModelLoadError
from service.repository.pull.reference import Reference
from service.repository.pull.source import (
    OF_DISK,
    TRANSIENT_STATUSES,
    RemoteFile,
    Snapshot,
    TransientError,
    UnreachableError,
    retry_after,
)

_MAIN = "main"
_TIMEOUT = 30.0
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404


@dataclass(frozen=True, slots=True)
class HubSource:
    """One model of the Hub."""

    reference: Reference

    def snapshot(self) -> Snapshot:
        """Return the files of the commit that the revision names now."""
        with self._translated(None):
            from huggingface_hub import HfApi  # noqa: PLC0415 - an extra

            info = HfApi().model_info(
                self.reference.location,
                revision=self.reference.revision or _MAIN,
                files_metadata=True,
                timeout=_TIMEOUT,
            )
        if not info.sha:
            raise ModelLoadError(f"{self.reference}: the Hub names no commit of it")
        files = [_remote(sibling) for sibling in info.siblings or ()]
        return Snapshot(info.sha, {file.name: file for file in files})

    def fetch(self, file: RemoteFile, revision: str, folder: Path) -> None:
        """Write a file; what an interrupted call has written is below `.cache` in the folder."""
        with self._translated(file.name):
            from huggingface_hub import hf_hub_download  # noqa: PLC0415 - an extra
            from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

            disable_progress_bars()
            # Its warnings quote URLs, which may be signed; errors say what fails.
            logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
            with catch_warnings(action="ignore"):  # of the disk's room, which is checked before
                hf_hub_download(
                    self.reference.location, file.name, revision=revision, local_dir=folder
                )

    @contextmanager
    def _translated(self, name: str | None) -> Iterator[None]:
        """Turn the errors of huggingface_hub into sentences without URLs and tokens."""
        try:
            yield
        except ImportError as error:
            raise ModelLoadError(
                f"{self.reference.source} needs {error.name}, which is not installed; it comes "
                "with the extra hub: pip install 'quartet[hub]'"
            ) from None
        except Exception as error:
            raise self._meaning(error, name) from None

    def _meaning(self, error: Exception, name: str | None) -> Exception:
        from huggingface_hub import errors  # noqa: PLC0415 - it was imported above

        if isinstance(error, errors.LocalEntryNotFoundError):
            cause = error.__cause__ or error.__context__  # what it stands for
            if isinstance(cause, Exception):
                return self._meaning(cause, name)
            return TransientError("the Hub cannot be reached")
        if isinstance(error, errors.OfflineModeIsEnabled):
            return UnreachableError(f"{self.reference}: HF_HUB_OFFLINE is set")
        sentences: Mapping[type[Exception], Callable[[], str]] = {
            errors.GatedRepoError: self._gated,
            errors.RevisionNotFoundError: self._without_revision,
            errors.EntryNotFoundError: lambda: f"{self.reference} has no file {name}",
            errors.RepositoryNotFoundError: self._absent,
            errors.HFValidationError: lambda: f"{self.reference} is no model's name on the Hub",
        }
        for kind, sentence in sentences.items():
            if isinstance(error, kind):
                return ModelLoadError(sentence())
        if isinstance(error, ModelLoadError) or _is_of_disk(error):
            return error
        return self._of_status(error)

    def _of_status(self, error: Exception) -> Exception:
        response: Any = getattr(error, "response", None)
        status = getattr(response, "status_code", None)
        if status is None:  # no answer, or one that was cut short
            return TransientError(f"the Hub cannot be reached ({type(error).__name__})")
        if status in TRANSIENT_STATUSES:
            wait = retry_after(response.headers.get("retry-after"))
            return TransientError(f"the Hub answers {status}", wait)
        sentences = {
            _UNAUTHORIZED: f"{self.reference}: the Hub refuses {_token_phrase()} (401)",
            _FORBIDDEN: f"{self.reference}: the Hub forbids it to {_token_phrase()} (403)",
            _NOT_FOUND: self._absent(),
        }
        default = f"{self.reference}: the Hub answers {status}"
        return ModelLoadError(sentences.get(status, default))

    def _gated(self) -> str:
        advice = "set HF_TOKEN to the token of an account that was given access"
        if _has_token():
            advice = f"the account of {_token_phrase()} was not given access"
        return (
            f"{self.reference.source} is gated: accept its terms on its page of the Hub; {advice}"
        )

    def _without_revision(self) -> str:
        return f"{self.reference.source} has no revision {self.reference.revision or _MAIN!r}"

    def _absent(self) -> str:
        if _has_token():
            return f"there is no {self.reference.source}, or {_token_phrase()} may not read it"
        return (
            f"there is no {self.reference.source}, or it is private: set HF_TOKEN to a token that "
            "may read it"
        )


def _is_of_disk(error: Exception) -> bool:
    is_answer = getattr(error, "response", None) is not None
    return isinstance(error, OSError) and error.errno in OF_DISK and not is_answer


def _has_token() -> bool:
    from huggingface_hub import get_token  # noqa: PLC0415 - an extra

    return bool(get_token())


def _token_phrase() -> str:
    return "the token (HF_TOKEN, or its file)" if _has_token() else "a request without a token"


def _remote(sibling: Any) -> RemoteFile:
    lfs = sibling.lfs
    return RemoteFile(
        sibling.rfilename,
        sibling.size,
        sha256=lfs.sha256 if lfs else None,
        git_blob=None if lfs else sibling.blob_id,
    )
