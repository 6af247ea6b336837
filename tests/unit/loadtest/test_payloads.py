import io

import orjson
import pytest
from PIL import Image

from loadtest.kinds import FOREIGN, UNSERVED, Kind
from loadtest.pacing import Arrival
from loadtest.payloads import STAMPS, Material, Payloads, marked, stamp
from tests.sentences import sentence

IMAGES = (Kind.CLASSIFY_IMAGE, Kind.CLASSIFY_LABELS, Kind.DETECT, Kind.EMBED_IMAGE)


@pytest.fixture(scope="module")
def material() -> Material:
    return Material()


def arrival(kind: Kind, number: int, repeat: bool = False) -> Arrival:
    return Arrival(number, 0.0, kind, repeat)


@pytest.mark.parametrize("kind", Kind)
def test_what_is_no_repeat_was_never_asked_before(material: Material, kind: Kind) -> None:
    payloads = Payloads(1, material)
    bodies = {payloads.request(arrival(kind, number)).body for number in range(300)}
    assert len(bodies) == 300


@pytest.mark.parametrize("kind", Kind)
def test_repeats_are_few_and_the_same_in_every_run(material: Material, kind: Kind) -> None:
    asked = [
        {Payloads(seed, material).request(arrival(kind, n, repeat=True)).body for n in range(300)}
        for seed in (1, 2)
    ]
    assert asked[0] == asked[1]
    assert 1 < len(asked[0]) <= 20


@pytest.mark.parametrize("kind", Kind)
def test_two_processes_with_the_same_seed_make_the_same_request(
    material: Material, kind: Kind
) -> None:
    for repeat in (False, True):
        one = arrival(kind, 7, repeat)
        assert Payloads(3, material).request(one) == Payloads(3, material).request(one)


@pytest.mark.parametrize(
    "kind", [kind for kind in Kind if kind not in {*IMAGES, *FOREIGN, *UNSERVED}]
)
def test_a_text_is_json_with_one_real_text(material: Material, kind: Kind) -> None:
    request = Payloads(1, material).request(arrival(kind, 5, repeat=True))
    (text,) = orjson.loads(request.body).values()
    known = {*material.headlines, *material.sentences, *material.phrases}
    assert all(part in known for part in [text, *text.split(". ")][:1]) or any(
        headline in text for headline in material.headlines
    )
    assert request.headers["Content-Type"] == "application/json"


def test_photos_come_in_four_sizes(material: Material) -> None:
    sizes = set()
    for number in range(200):
        body = Payloads(1, material).request(arrival(Kind.DETECT, number)).body
        image = Image.open(io.BytesIO(body.split(b"\r\n\r\n", 1)[1]))
        sizes.add(image.size)
    assert sizes == {(168, 224), (336, 448), (672, 896), (1344, 1792)}


@pytest.mark.parametrize("part", ["digits", "emoji", "photos"])
def test_a_marked_image_is_another_file_of_the_same_picture(material: Material, part: str) -> None:
    found = material.photos[1.0] if part == "photos" else getattr(material, part)
    for image in found:
        other = marked(image, 12345)
        assert other != image
        pictures = [Image.open(io.BytesIO(data)) for data in (image, other)]
        for picture in pictures:
            picture.load()
        assert pictures[0].tobytes() == pictures[1].tobytes()


def test_what_is_no_image_cannot_be_marked() -> None:
    with pytest.raises(ValueError, check=sentence):
        marked(b"GIF89a", 1)


def test_stamps_do_not_repeat_where_days_and_months_change() -> None:
    numbers = [*range(86_390, 86_410), *range(28 * 86_400 - 5, 28 * 86_400 + 5), STAMPS - 1]
    assert len({stamp(number) for number in numbers}) == len(numbers)
    assert stamp(STAMPS) == stamp(0) == ("January", 1, "00:00:00")
    assert stamp(28 * 86_400 + 3_661) == ("February", 1, "01:01:01")
