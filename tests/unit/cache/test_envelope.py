import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.cache import codec
from service.cache.codec import seal, unseal


@given(st.text(), st.binary(), st.binary(max_size=codec.MAX_SECRET))
def test_what_was_sealed_opens_under_its_key_and_secret(
    key: str, payload: bytes, secret: bytes
) -> None:
    assert unseal(key, seal(key, payload, secret), secret) == payload


@given(st.binary(), st.data())
def test_a_value_with_one_changed_bit_does_not_open(payload: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal("key", payload))
    position = data.draw(st.integers(0, len(sealed) - 1))
    sealed[position] ^= 1 << data.draw(st.integers(0, 7))
    assert unseal("key", bytes(sealed)) is None


@given(st.binary(), st.data())
def test_a_truncated_value_does_not_open(payload: bytes, data: st.DataObject) -> None:
    sealed = seal("key", payload)
    assert unseal("key", sealed[: data.draw(st.integers(0, len(sealed) - 1))]) is None


@given(st.binary(), st.binary(min_size=1))
def test_a_value_with_something_appended_does_not_open(payload: bytes, more: bytes) -> None:
    assert unseal("key", seal("key", payload) + more) is None


@given(st.text(), st.text(), st.binary())
def test_a_value_copied_from_another_key_does_not_open(
    key: str, other: str, payload: bytes
) -> None:
    assume(key != other)
    assert unseal(other, seal(key, payload)) is None


def test_the_end_of_a_key_cannot_move_into_the_payload() -> None:
    sealed = seal("key1", b"payload")
    shifted = sealed[: len(sealed) - len(b"payload")] + b"1payload"
    assert unseal("key", shifted) is None


@given(st.binary())
def test_bytes_that_were_never_sealed_do_not_open(stray: bytes) -> None:
    assert unseal("key", stray) is None


@pytest.mark.parametrize(("sealed_with", "opened_with"), [(b"", b"a"), (b"a", b""), (b"a", b"b")])
def test_a_value_sealed_with_another_secret_does_not_open(
    sealed_with: bytes, opened_with: bytes
) -> None:
    assert unseal("key", seal("key", b"payload", sealed_with), opened_with) is None


def test_a_value_of_another_schema_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = codec._PREFIX
    monkeypatch.setattr(codec, "_PREFIX", prefix[:-1] + bytes([prefix[-1] + 1]))
    of_the_next_schema = seal("key", b"payload")
    assert unseal("key", of_the_next_schema) == b"payload"
    monkeypatch.undo()
    assert unseal("key", of_the_next_schema) is None
