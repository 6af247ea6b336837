"""The comparison with CTranslate2: what it sends, what it makes of answers, what it promises."""

from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

import torch

from benchmarks.translation.countdown import EOS, MOST, Size, network, sentences
from benchmarks.translation.findings import CTRANSLATE2, PLAIN, QUARTET, Findings, Speed, Stream
from benchmarks.translation.promises import checks, fastest_ratios

SMALL = Size(width=256, feed_forward=256, heads=4, layers=2, vocabulary=600)


@pytest.mark.looptime(False)
def test_a_network_of_random_weights_writes_as_many_tokens_as_its_source_asks_for() -> None:
    torch.set_num_threads(1)
    model = network(SMALL)
    asked = sorted(sentences(112, 3, SMALL), key=lambda sentence: sentence.target_length)
    for sentence in [asked[0], asked[50], asked[-1]]:
        source = torch.tensor([[*sentence.source, EOS]])
        written = model.generate(source, num_beams=1, do_sample=False, max_new_tokens=MOST + 5)
        words = " ".join(f"w{token}" for token in written[0, 1:-1].tolist())
        assert (words, written[0, -1].item()) == (sentence.answer, EOS)


def test_every_length_from_5_to_60_is_asked_for() -> None:
    assert {one.target_length for one in sentences(56, 1)} == set(range(5, MOST + 1))


def findings(rate: float, latency: float, resident: float) -> Findings:
    def speeds(engine: str, rate: float) -> Speed:
        return Speed(engine, 1, 2, 8, 1, [rate], [rate], 1.0)

    def streams(engine: str, rate: float, latency: float) -> list[Stream]:
        return [
            Stream(engine, None, [1.0], int(rate), 1.0, 0),
            Stream(engine, 4.0, [latency] * 20, 100, 5.0, 0),
        ]

    return Findings(
        {},
        {},
        speeds=[speeds(QUARTET, rate), speeds(CTRANSLATE2, 100)],
        streams=[
            *streams(QUARTET, rate, latency),
            *streams(CTRANSLATE2, 100, 1.0),
            *streams(PLAIN, 100, 1.0),
        ],
        resident={QUARTET: resident, CTRANSLATE2: 200},
    )


def test_promises_are_kept_where_it_is_faster_and_not_much_larger() -> None:
    found = checks(findings(200, 0.5, 290))
    assert len(found) == 8
    assert all(check.is_met for check in found)


def test_promises_are_missed_where_it_is_not() -> None:
    missed = [check.promise for check in checks(findings(100, 1.0, 310)) if not check.is_met]
    assert len(missed) == 6


def test_static_promises_are_of_one_worker_and_the_fastest_shapes_are_for_information() -> None:
    def speed(engine: str, workers: int, rate: float, threads: int | None = None) -> Speed:
        return Speed(engine, workers, threads or 3 - workers, 8, 1, [rate], [rate], 1.0)

    found = Findings(
        {},
        {},
        speeds=[
            speed(QUARTET, 1, 200),
            speed(QUARTET, 2, 300),
            speed(CTRANSLATE2, 1, 100),
            speed(CTRANSLATE2, 1, 125, threads=1),
            speed(CTRANSLATE2, 2, 400),
        ],
    )
    [static] = [check for check in checks(found) if "batches of 8" in check.promise]
    assert (static.measured, static.is_met) == (1.6, True)
    assert fastest_ratios(found) == {8: 0.75}


def test_answers_that_may_differ_break_no_promise_and_refusals_always_do() -> None:
    streams = [
        Stream(QUARTET, None, [1.0], 10, 1.0, 0),
        Stream(CTRANSLATE2, None, [1.0], 10, 1.0, 5),
    ]
    found = Findings({}, {}, exact=(QUARTET,), streams=streams)
    assert checks(found)[-1].is_met
    refused = Stream(CTRANSLATE2, None, [1.0], 10, 1.0, 0, refused=1)
    assert not checks(replace(found, streams=[*streams, refused]))[-1].is_met
