"""The certificate of TLS and its private key, read again when their files change."""

import re
import ssl
from base64 import b64decode
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from typing_extensions import override

from service.access.watched_files import WatchedFiles
from service.telemetry.request_metrics import TLS_CERTIFICATE_BROKEN, TLS_CERTIFICATE_EXPIRY

_CERTIFICATE = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----([^-]+)-----END")
_VERSION, _UTC_TIME = 0xA0, 0x17
"""Tags of DER: the version of a certificate, and a time whose year has two digits."""


class CertificateError(ValueError):
    """The certificate or its key cannot be used; the message says which and why."""


class CertificatePair(NamedTuple):
    """A certificate with those that issued it, and its key, both in PEM."""

    chain: bytes
    key: bytes
    context: ssl.SSLContext
    """TLS 1.2 and later, with this certificate."""


class Certificate(WatchedFiles[CertificatePair]):
    """The certificate of new connections: the last pair of files that was valid."""

    name, broken = "the certificate", TLS_CERTIFICATE_BROKEN
    current: CertificatePair

    def __init__(self, chain: Path, key: Path) -> None:
        """Read both files.

        Args:
            chain: the certificate in PEM, followed by those that issued it.
            key: its private key in PEM, without a passphrase.

        Raises:
            CertificateError: a file cannot be read, is not PEM, or the two do not belong together.
        """
        super().__init__(chain, key)

    @override
    def read(self) -> CertificatePair:
        return _read(*self.files)

    @override
    def use(self, content: CertificatePair) -> None:
        self.current = content
        TLS_CERTIFICATE_EXPIRY.set(expiry_of(content.chain))


def expiry_of(chain: bytes) -> float:
    """Return the Unix time at which the first certificate of a chain in PEM expires.

    0 if it cannot be read. Python's `ssl` does not say it of a server's own certificate.
    """
    try:
        return min(_end_of(b64decode(one)) for one in _CERTIFICATE.findall(chain))
    except (ValueError, IndexError):  # OpenSSL accepts more forms of a time than RFC 5280
        return 0


def _end_of(der: bytes) -> float:
    signed = _values(_values(der)[0][1])[0][1]
    members = _values(signed)
    # Version (may be absent), serial number, algorithm, issuer, validity: RFC 5280, 4.1.
    validity = members[4 if members[0][0] == _VERSION else 3][1]
    _, (tag, text) = _values(validity)
    time = text.decode("ascii")
    if tag == _UTC_TIME:
        time = ("19" if time >= "50" else "20") + time
    return datetime.strptime(time, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _values(der: bytes) -> Sequence[tuple[int, bytes]]:
    """Return the tags and contents of the values that follow one another in DER."""
    values = []
    while der:
        tag, length, at = der[0], der[1], 2
        if length >= 0x80:  # noqa: PLR2004 - the lower bits say how many bytes the length has
            at += length - 0x80
            length = int.from_bytes(der[2:at], "big")
        values.append((tag, der[at : at + length]))
        der = der[at + length :]
    return values


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
