"""Emoji: pictures, flags, keycaps, and the sequences that are shown as one picture (UTS #51)."""

from collections.abc import Sequence
from typing import Final

import regex

_PICTURE = r"[\p{Emoji_Presentation}[\p{Extended_Pictographic}&&[\u2300-\U0010ffff]]]"
EMOJI: Final = (
    r"(?:\p{Regional_Indicator}{2}|[0-9#*]\ufe0f?\u20e3|\p{Extended_Pictographic}\ufe0f"
    rf"|{_PICTURE})[\ufe0f\p{{Emoji_Modifier}}]*"
    r"(?:\u200d\p{Extended_Pictographic}[\ufe0f\p{Emoji_Modifier}]*)*[\U000e0020-\U000e007f]*"
)
"""Pattern of one emoji, for `regex.V1`. Signs such as © count only with an emoji selector."""

_EMOJI: Final = regex.compile(EMOJI, regex.V1)


def emoji_of(text: str) -> Sequence[str]:
    """Return the emoji of a text, in order."""
    return [] if text.isascii() else [match.group() for match in _EMOJI.finditer(text)]
