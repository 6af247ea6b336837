"""Labels of frames as spans of time."""

from service.tasks import Classification, Label
from service.transforms.spans import Span, Spans


def labels(**scores: float) -> Classification:
    best_first = sorted(scores.items(), key=lambda pair: -pair[1])
    return Classification(tuple(Label(name, score) for name, score in best_first))


CAT, DOG = labels(cat=0.8, dog=0.2), labels(cat=0.1, dog=0.9)


def spans_of(answers: list[Classification], smoothing: float) -> list[Span]:
    spans = Spans(smoothing)
    found = [spans.add(n / 10, answer) for n, answer in enumerate(answers)]
    return [span for span in (*found, spans.end(len(answers) / 10)) if span is not None]


def test_without_smoothing_every_change_ends_a_span() -> None:
    found = spans_of([CAT, CAT, DOG, CAT], 0.0)
    assert [(span.label, span.start, span.end) for span in found] == [
        ("cat", 0.0, 0.2),
        ("dog", 0.2, 0.3),
        ("cat", 0.3, 0.4),
    ]
    assert [round(span.score, 6) for span in found] == [0.8, 0.9, 0.8]


def test_one_odd_frame_is_smoothed_away() -> None:
    found = spans_of([CAT] * 10 + [DOG] + [CAT] * 10, 0.5)
    assert [(span.label, span.start, span.end) for span in found] == [("cat", 0.0, 2.1)]


def test_a_lasting_change_comes_through_a_little_later() -> None:
    first, second = spans_of([CAT] * 20 + [DOG] * 20, 0.5)
    assert (first.label, second.label) == ("cat", "dog")
    assert 2.1 <= first.end == second.start <= 2.6
    assert second.end == 4.0


def test_without_frames_there_is_no_span() -> None:
    assert spans_of([], 0.5) == []
    assert spans_of([Classification(())], 0.5) == []
