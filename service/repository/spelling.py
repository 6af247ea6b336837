"""Guesses at what somebody meant to write."""

from collections.abc import Collection
from difflib import get_close_matches


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return "; did you mean X?" for the known name nearest to this one, or "" if none is near."""
    plain = {_plain(candidate): candidate for candidate in known}
    nearest = get_close_matches(_plain(name), plain, n=1, cutoff=0.6)
    return f"; did you mean {plain[nearest[0]]}?" if nearest else ""


def _plain(name: str) -> str:
    # Case and the kind of separator are the commonest mistakes: they must not count as distance.
    return name.lower().replace("-", "_").replace(".", "_")
