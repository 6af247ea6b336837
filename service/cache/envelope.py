"""How a value travels to a store that others can write to.

magic (4 bytes), schema (1 byte), checksum (16 bytes), payload. The checksum covers the schema,
the key and the payload, so a value that was cut, damaged, copied from another key or written by
another schema does not open. With a secret, only who knows it can make one that opens.
"""

import hashlib
import hmac
import struct

from service.cache.keys import SCHEMA

MAX_SECRET = hashlib.blake2b.MAX_KEY_SIZE
_MAGIC = b"QRTT"
_CHECKSUM_SIZE = 16
_PREFIX = _MAGIC + struct.pack("<B", SCHEMA)
_HEADER_SIZE = len(_PREFIX) + _CHECKSUM_SIZE


def seal(key: str, payload: bytes, secret: bytes = b"") -> bytes:
    """Return the payload in an envelope that opens under this key and secret only."""
    return _PREFIX + _checksum(key, payload, secret) + payload


def unseal(key: str, sealed: bytes, secret: bytes = b"") -> bytes | None:
    """Return the payload, or None if this is not a whole envelope made for this key."""
    if len(sealed) < _HEADER_SIZE or not sealed.startswith(_PREFIX):
        return None
    payload = sealed[_HEADER_SIZE:]
    checksum = sealed[len(_PREFIX) : _HEADER_SIZE]
    return payload if hmac.compare_digest(checksum, _checksum(key, payload, secret)) else None


def _checksum(key: str, payload: bytes, secret: bytes) -> bytes:
    named = key.encode()
    hashed = hashlib.blake2b(digest_size=_CHECKSUM_SIZE, key=secret)
    hashed.update(_PREFIX + struct.pack("<I", len(named)) + named)
    hashed.update(payload)
    return hashed.digest()
