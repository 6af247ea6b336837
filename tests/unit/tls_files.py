"""Certificates for tests, of an authority that each test run makes for itself."""

import ssl
from datetime import datetime
from pathlib import Path

import trustme


class TlsFiles:
    """The two files that a server reads, and a client that trusts their authority."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.authority = folder / "authority.pem"
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        self._authority.cert_pem.write_to_path(self.authority)
        self.renew()

    def renew(self, not_after: datetime | None = None) -> None:
        """Write another certificate and its key."""
        pair = self._authority.issue_cert("localhost", "127.0.0.1", not_after=not_after)
        self.chain.write_bytes(b"".join(part.bytes() for part in pair.cert_chain_pems))
        pair.private_key_pem.write_to_path(self.key)

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.authority)
