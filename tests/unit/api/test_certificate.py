"""The files of a certificate: what is refused, and what happens when they change."""

import subprocess
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from service.api.certificate import Certificate, CertificateError, expiry_of
from service.settings import SettingsError, read_settings
from tests.sentences import sentence
from tests.unit.tls_files import TlsFiles


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return TlsFiles(tmp_path)


def broken() -> float | None:
    return REGISTRY.get_sample_value("tls_certificate_broken")


def exchange(files: TlsFiles) -> None:
    files.key.write_bytes(files.chain.read_bytes())


def other_key(files: TlsFiles) -> None:
    chain = files.chain.read_bytes()
    files.renew()
    files.chain.write_bytes(chain)


def encrypt(files: TlsFiles) -> None:
    command = ["openssl", "pkey", "-in", files.key, "-aes256", "-passout", "pass:secret"]
    files.key.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)


def garbage(files: TlsFiles) -> None:
    files.chain.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def no_chain(files: TlsFiles) -> None:
    files.chain.unlink()


def no_key(files: TlsFiles) -> None:
    files.key.unlink()


def empty(files: TlsFiles) -> None:
    files.chain.write_text("")


WRONG: list[Callable[[TlsFiles], object]] = [
    no_chain,
    no_key,
    empty,
    exchange,
    other_key,
    encrypt,
    garbage,
]


@pytest.mark.parametrize("spoil", WRONG)
def test_files_that_are_no_pair_are_refused_with_the_reason(
    files: TlsFiles, spoil: Callable[[TlsFiles], object]
) -> None:
    spoil(files)
    with pytest.raises(CertificateError) as caught:
        Certificate(files.chain, files.key)
    text = str(caught.value).partition(": [")[0]  # what follows is OpenSSL's
    assert sentence(text.replace(str(files.chain.parent), "FOLDER"))


@pytest.mark.parametrize("name", ["CERT", "KEY"])
def test_one_file_without_the_other_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, check=sentence):
        read_settings({f"QUARTET_SERVER__TLS_{name}": "a.pem"})


async def settle(certificate: Certificate) -> None:
    await certificate.look()
    await certificate.look()


async def test_a_new_pair_replaces_the_old_one_and_a_broken_one_does_not(
    files: TlsFiles, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = Certificate(files.chain, files.key)
    first = certificate.current
    await settle(certificate)
    assert certificate.current is first
    files.renew()
    await certificate.look()
    assert certificate.current is first  # the files may still be written
    await certificate.look()
    second = certificate.current
    assert second.chain == files.chain.read_bytes() != first.chain
    other_key(files)
    await settle(certificate)
    assert certificate.current is second
    assert broken() == 1
    assert "server.tls_key" in caplog.text
    files.renew()
    await settle(certificate)
    assert certificate.current is not second
    assert broken() == 0


@pytest.mark.parametrize("year", [2049, 2050])  # written in another form from 2050 on
async def test_the_end_of_a_new_certificate_is_shown(files: TlsFiles, year: int) -> None:
    certificate = Certificate(files.chain, files.key)
    end = datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC)
    files.renew(end)
    await settle(certificate)
    assert REGISTRY.get_sample_value("tls_certificate_expiry_timestamp_seconds") == end.timestamp()


def test_of_a_chain_the_certificate_that_expires_first_counts(files: TlsFiles) -> None:
    ends = [datetime(year, 1, 1, tzinfo=UTC) for year in (2041, 2031, 2051)]
    chain = b""
    for end in ends:
        files.renew(end)
        chain += files.chain.read_bytes()
    assert expiry_of(chain) == ends[1].timestamp()


@pytest.mark.parametrize("der", [b"", b"\x30\x03\x30\x01\x02", b"\x30\x84\xff", b"\xff" * 64])
def test_an_end_that_cannot_be_read_is_0(der: bytes) -> None:
    pem = b"-----BEGIN CERTIFICATE-----\n%b\n-----END CERTIFICATE-----\n" % b64encode(der)
    assert expiry_of(pem) == 0
