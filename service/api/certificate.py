"""The certificate of TLS and its private key, read again when their files change."""

import asyncio
import logging
import ssl
from pathlib import Path
from typing import NamedTuple

from service.access.watched_files import LOOK_SECONDS, WatchedFiles
from service.telemetry.request_metrics import TLS_CERTIFICATE_BROKEN

_log = logging.getLogger(__name__)


class CertificateError(ValueError):
    """The certificate or its key cannot be used; the message says which and why."""


class CertificatePair(NamedTuple):
    """A certificate with those that issued it, and its key, both in PEM."""

    chain: bytes
    key: bytes
    context: ssl.SSLContext
    """TLS 1.2 and later, with this certificate."""


class Certificate:
    """The certificate of new connections: the last pair of files that was valid."""

    def __init__(self, chain: Path, key: Path) -> None:
        """Read both files.

        Args:
            chain: the certificate in PEM, followed by those that issued it.
            key: its private key in PEM, without a passphrase.

        Raises:
            CertificateError: a file cannot be read, is not PEM, or the two do not belong together.
        """
        self._chain_file, self._key_file = chain, key
        self._files = WatchedFiles(chain, key)
        self.current = _read(chain, key)
        TLS_CERTIFICATE_BROKEN.set(0)

    async def watch(self, pause: float = LOOK_SECONDS) -> None:
        """Read the files again whenever one has changed. Runs until cancelled."""
        await self._files.watch(self.look, pause)

    async def look(self) -> None:
        """Read the files if one has changed; keep the previous pair if the new one is not valid."""
        if not await self._files.have_changed():
            return
        try:
            self.current = await asyncio.to_thread(_read, self._chain_file, self._key_file)
        except CertificateError as error:
            TLS_CERTIFICATE_BROKEN.set(1)
            _log.error("the certificate cannot be used, the previous one stays in use: %s", error)
        else:
            TLS_CERTIFICATE_BROKEN.set(0)
            _log.info("certificate read", extra={"file": str(self._chain_file)})


def _read(chain_file: Path, key_file: Path) -> CertificatePair:
    chain = _read_pem(chain_file, "server.tls_cert", "CERTIFICATE")
    key = _read_pem(key_file, "server.tls_key", "PRIVATE KEY")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION  # a client could ask for it without end
    try:
        context.load_cert_chain(chain_file, key_file, _refuse_passphrase)
    except CertificateError:
        raise CertificateError(
            f"server.tls_key: {key_file} is encrypted; remove its passphrase"
        ) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            sentence = f"server.tls_key: {key_file} is not the key of {chain_file}"
            raise CertificateError(sentence) from None
        sentence = f"server.tls_cert: {chain_file} cannot be used with {key_file}: {error}"
        raise CertificateError(sentence) from None
    except OSError as error:  # gone since it was read
        raise CertificateError(f"server.tls_cert: {error}") from None
    return CertificatePair(chain, key, context)


def _refuse_passphrase() -> str:
    raise CertificateError


def _read_pem(file: Path, setting: str, what: str) -> bytes:
    try:
        pem = file.read_bytes()
    except OSError as error:
        raise CertificateError(f"{setting}: {file} cannot be read: {error.strerror}") from None
    if f"{what}-----".encode() not in pem:
        raise CertificateError(f"{setting}: {file} has no {what.lower()} in PEM")
    return pem
