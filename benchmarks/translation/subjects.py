"""What is translated, by which engines, and what they must answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.translation import countdown, folders, starter
from benchmarks.translation.findings import CTRANSLATE2, PLAIN, QUARTET, QUARTET_INT8

SUBJECTS = (folders.MODEL, starter.SUBJECT)
_SEED = 11
_OFTEN = 5
"""How often the starter is asked every sentence in a stream: it takes a few milliseconds."""


@dataclass(frozen=True, slots=True)
class Question:
    """A text, and by number of beams the answer that is compared with."""

    text: str
    answers: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Load:
    """What a server is sent."""

    questions: Sequence[Question]
    beams: int
    count: Callable[[str], int]
    """Target tokens of an answer."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A network, for every engine."""

    name: str
    note: str
    """Which engine computes in what."""
    folders: Mapping[str, Path]
    """By engine: a version of a model repository, or a model of CTranslate2 with tokenizers."""
    questions: Sequence[Question]
    streamed: Sequence[Question]
    beams: Sequence[int]
    """With which streams are answered."""
    exact: Sequence[str]
    """Engines whose every answer must be the one that it is compared with."""
    target: Tokenizer

    def count(self, answer: str) -> int:
        """Return how many target tokens an answer has, its end not counted."""
        return len(self.target.encode(answer, add_special_tokens=False).ids)


def prepare(name: str, out: Path) -> Subject:
    """Make what the engines need, unless it is there."""
    return _starter(out) if name == starter.SUBJECT else _opus_mt_size(out)


def _opus_mt_size(out: Path) -> Subject:
    made = folders.prepare(out)
    asked = [
        Question(sentence.text, {1: sentence.answer, 4: sentence.answer})
        for sentence in countdown.sentences(200, _SEED)
    ]
    places = {
        QUARTET: made.version,
        CTRANSLATE2: made.ctranslate2,
        PLAIN: made.plain / folders.MODEL / "1",
    }
    note = "all in int8"
    everyone = (QUARTET, CTRANSLATE2, PLAIN)
    target = folders.tokenizer()
    return Subject(folders.MODEL, note, places, asked, asked, (1,), everyone, target)


def _starter(out: Path) -> Subject:
    made = starter.prepare(out)
    answers = starter.lone_answers(made.quartet)
    asked = [
        Question(text, {beams: found[text] for beams, found in answers.items()})
        for text in next(iter(answers.values()))
    ]
    places = {
        QUARTET: made.quartet,
        QUARTET_INT8: made.quartet_int8,
        CTRANSLATE2: made.ctranslate2,
    }
    note = f"{QUARTET} in fp32, its default on a CPU; the others in int8"
    target = Tokenizer.from_file(str(made.ctranslate2 / "target_tokenizer.json"))
    streamed = [*asked] * _OFTEN
    return Subject(starter.SUBJECT, note, places, asked, streamed, (1, 4), (QUARTET,), target)
