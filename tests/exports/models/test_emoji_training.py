"""The emoji recipe: captions, changes to a picture, the teacher, and the towers to start from."""

import numpy as np
import pytest
from PIL import Image

from models.__main__ import steps

torch = pytest.importorskip("torch")

from models.datasets.emoji import (  # noqa: E402
    HELD_OUT_STYLE,
    TRAINED_STYLES,
    Concept,
    all_captions,
    is_chinese,
    premultiplied,
    read_paraphrases,
    read_phrases,
)
from models.datasets.files import Pair, train_wordpiece  # noqa: E402
from models.evaluate.embedding import read_page_pictures  # noqa: E402
from models.starters.emoji import teacher as teacher_module  # noqa: E402
from models.starters.emoji.images import augmented, normalised, on_white  # noqa: E402
from models.starters.emoji.least_squares import start_texts  # noqa: E402
from models.starters.emoji.lessons import Lessons, Words  # noqa: E402
from models.starters.emoji.measure import recall  # noqa: E402
from models.starters.emoji.pictures import Drawings  # noqa: E402
from models.starters.emoji.projection import features, fit_last_layer  # noqa: E402
from models.starters.emoji.teacher import Space, Teacher  # noqa: E402
from models.starters.emoji.towers import (  # noqa: E402
    DIMENSIONS,
    HIGHEST_SCALE,
    ImageTower,
    Similarity,
    TextTower,
)
from models.starters.emoji.train import Course as TextCourse  # noqa: E402
from models.starters.emoji.train import text_vectors  # noqa: E402
from models.starters.emoji.train_images import Course as ImageCourse  # noqa: E402
from models.starters.text_encoder import TextEncoderShape  # noqa: E402
from service.transforms.vision.image import decode_image  # noqa: E402
from service.transforms.vision.processing import ImageProcessor, Processing  # noqa: E402


def concept(name: str = "red heart", keywords: tuple[str, ...] = ("love", "red")) -> Concept:
    return Concept(
        code="2764",
        names={"en": name, "zh": "红心"},
        keywords={"en": list(keywords), "zh": ["爱", "心"]},
        styles=("noto",),
        split="train",
    )


def test_the_style_that_measures_new_styles_is_never_trained_on():
    assert HELD_OUT_STYLE not in TRAINED_STYLES


def test_captions_are_the_name_keywords_or_both():
    generator = np.random.default_rng(0)
    seen = {concept().caption("en", generator) for _ in range(300)}
    assert {"red heart", "love", "love, red", "red, love", "red heart, love"} <= seen
    words = {word for caption in seen for word in caption.split(", ")}
    assert words == {"red heart", "love", "red"}
    assert {concept().caption("zh", generator) for _ in range(50)} >= {"红心", "爱，心"}


def test_a_concept_without_keywords_is_called_by_its_name():
    alone = concept("heart", keywords=())
    assert {alone.caption("en", np.random.default_rng(seed)) for seed in range(20)} == {"heart"}


@pytest.mark.parametrize(
    ("name", "safe"),
    [("red heart", True), ("leftwards hand", False), ("flag: Japan", False), ("cat", True)],
)
def test_only_pictures_that_mean_the_same_in_a_mirror_may_be_mirrored(name, safe):
    assert concept(name).may_be_mirrored is safe


def test_every_name_and_keyword_trains_the_tokenizer():
    assert set(all_captions([concept()])) == {"red heart", "love", "red", "红心", "爱", "心"}


def drawing() -> Image.Image:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[16:48, 16:48] = (200, 40, 90, 255)
    pixels[20:30, 20:30, 3] = 128
    return Image.fromarray(pixels, "RGBA")


def test_drawings_are_evaluated_as_the_service_sees_them(tmp_path):
    drawing().save(tmp_path / "drawing.png")
    decoded = decode_image((tmp_path / "drawing.png").read_bytes())
    served, _ = ImageProcessor(Processing(size=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3))(decoded)
    mine = on_white(torch.from_numpy(premultiplied(drawing()))[None])[0].numpy()
    np.testing.assert_allclose(mine, served, atol=2.5 / 127)


def test_augmented_pictures_differ_and_stay_in_range():
    torch.manual_seed(0)
    batch = torch.from_numpy(premultiplied(drawing()))[None].expand(12, -1, -1, -1)
    pictures = augmented(batch, torch.ones(12, dtype=torch.bool))
    assert pictures.shape == (12, 3, 64, 64)
    assert pictures.min() >= -1
    assert pictures.max() <= 1
    assert torch.isfinite(pictures).all()
    assert len({picture.numpy().tobytes() for picture in pictures}) == 12


def test_normalisation_is_that_of_the_manifest():
    assert normalised(torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3).expand(1, 3, 1, 3))[
        0, 0, 0
    ].tolist() == [-1, 0, 1]


def test_phrases_name_emoji_and_none_that_measures_is_trained_on():
    trained, measured = read_paraphrases(), read_phrases()
    texts = [text for texts in trained.values() for text in texts]
    assert len(set(texts)) == len(texts) > 800
    assert {is_chinese(text) for text in texts} == {True, False}
    pictures = {one.names["en"] for one in read_page_pictures()}
    for language in ("en", "zh"):
        assert len(measured[language]) == 24
        for phrase, right in measured[language].items():
            assert phrase not in texts
            assert is_chinese(phrase) is (language == "zh")
            assert right
            assert set(right) <= pictures


PLACES = {"cat": 0, "a cat": 0, "cats": 0, "dog": 1, "dogs": 1, "cat: pet": 0, "dog: pet": 1}


class Sentences:
    """Three directions; texts about cats and dogs point along the first two."""

    def __call__(self, texts):
        vectors = np.full((len(texts), 200), 0.01, np.float32)
        for row, text in enumerate(texts):
            vectors[row, PLACES.get(text, 2)] = 1
            vectors[row, 3 + row % 150] = 0.02
        return vectors


def animals() -> list[Concept]:
    return [
        Concept(name, {"en": name, "zh": zh}, {"en": ["pet"], "zh": ["宠物"]}, ("noto",), "train")
        for name, zh in (("cat", "猫"), ("dog", "狗"))
    ]


@pytest.fixture
def taught(monkeypatch) -> tuple[Lessons, Teacher, Words]:
    monkeypatch.setattr(teacher_module, "KEPT", 1)
    space = Space(Sentences(), [*PLACES, *map(str, range(300))])
    paraphrases = {"cat": ["a cat"], "dog": ["dogs"]}
    teacher = Teacher(space, animals(), paraphrases)
    sentences = [Pair("猫们", "cats"), Pair("三百", "300")] * 40
    texts = [*all_captions(animals()), *PLACES, "猫们", "三百", *map(str, range(300))]
    words = Words(train_wordpiece(texts, vocabulary_size=300), 16)
    return Lessons(animals(), paraphrases, teacher, space, sentences, words), teacher, words


def test_the_teacher_puts_texts_at_the_emoji_that_they_are_about(taught):
    _, teacher, _ = taught
    assert teacher.places.shape == (2, DIMENSIONS)
    np.testing.assert_allclose(np.linalg.norm(teacher.places, axis=1), 1, atol=1e-5)
    answers = teacher.answers(teacher.places)
    assert answers.places[:, 0].tolist() == [0, 1]
    np.testing.assert_allclose(answers.shares.sum(1), 1, atol=1e-5)


def test_a_batch_holds_answers_that_sum_to_one_and_places_of_length_one(taught):
    lessons, _, _ = taught
    batch = lessons.batch(40)
    assert batch.ids.shape == batch.mask.shape
    torch.testing.assert_close(batch.answers.sum(1), torch.ones(40))
    torch.testing.assert_close(batch.places.norm(dim=1), torch.ones(40))


def test_the_first_text_tower_already_tells_cats_from_dogs(taught):
    lessons, teacher, words = taught
    torch.manual_seed(0)
    tower = TextTower(TextEncoderShape(300, 16, embedding=48, width=96, layers=1, dropout=0.0))
    start_texts(tower, lessons)
    with torch.no_grad():
        found = tower(*words(["cat", "猫", "a cat", "dog", "狗", "dogs"]))
    nearest = (found @ torch.from_numpy(teacher.places).T).argmax(1)
    assert nearest.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.fixture
def shapes() -> Drawings:
    """Cats are red and wide, dogs blue and high."""
    pixels = torch.zeros(8, 4, 64, 64, dtype=torch.uint8)
    pixels[:, 3] = 255
    pixels[::2, 0, 16:48] = 255
    pixels[1::2, 2, :, 16:48] = 255
    return Drawings(pixels, np.arange(8) % 2, torch.zeros(8, dtype=torch.bool))


def test_the_last_layer_of_known_convolutions_puts_drawings_at_their_emoji(
    taught, shapes, tmp_path
):
    _, teacher, _ = taught
    torch.manual_seed(0)
    tower, places = ImageTower(), torch.from_numpy(teacher.places)
    found = features(tower, shapes, tmp_path / "features.pt")
    torch.testing.assert_close(
        features(tower, shapes, tmp_path / "features.pt"), found, rtol=0.01, atol=0.01
    )
    more = torch.cat((-places, places))  # places of emoji without a drawing
    fit_last_layer(tower, found, 2 + torch.arange(8) % 2, more, steps=200)
    with torch.no_grad():
        nearest = tower(on_white(shapes.pixels)) @ places.T
    assert nearest.argmax(1).tolist() == [0, 1] * 4


@pytest.mark.parametrize("side", [64, 32])
def test_an_image_tower_learns_where_drawings_of_either_size_belong(taught, shapes, side):
    _, teacher, _ = taught
    torch.manual_seed(0)
    course = ImageCourse(ImageTower(), torch.from_numpy(teacher.places), rate=2e-3)
    batches = shapes.batches(8, np.random.default_rng(0), side)
    losses = []
    for _ in range(12):
        images, shown = next(batches)
        assert images.shape == (8, 3, side, side)
        losses.append(course.learn(images, torch.from_numpy(shown), 2e-3))
    assert losses[-1] < 0.5 * losses[0]


def test_a_text_tower_learns_which_emoji_texts_mean(taught):
    lessons, teacher, _ = taught
    torch.manual_seed(0)
    tower = TextTower(TextEncoderShape(300, 16, embedding=48, width=96, layers=1, dropout=0.0))
    course = TextCourse(tower, torch.from_numpy(teacher.places))
    losses = [course.learn(lessons.batch(40), 2e-3) for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]


def test_names_and_paraphrases_are_read_where_the_text_tower_puts_them(taught):
    _, _, words = taught
    torch.manual_seed(0)
    shape = TextEncoderShape(300, 16, embedding=48, width=96, layers=1, dropout=0.0)
    tower = TextTower(shape).eval()
    concepts = animals()
    phrases = ["it purrs", "it miaows"]
    found = text_vectors(tower, words, concepts, {concepts[0].names["en"]: phrases})

    @torch.no_grad()
    def read(*texts: str) -> list[torch.Tensor]:
        return [torch.nn.functional.normalize(tower(*words([text])))[0] for text in texts]

    first, second = (sum(read(*concept.names.values())) for concept in concepts[:2])
    torch.testing.assert_close(found[0], first + sum(read(*phrases)) / 2)
    torch.testing.assert_close(found[1], second)


def test_the_scale_of_a_similarity_is_bounded():
    similarity, places = Similarity(), torch.eye(4)
    with torch.no_grad():
        similarity.log_scale.fill_(9.0)
    assert similarity(5 * places, places).max().item() == pytest.approx(HIGHEST_SCALE)


def test_recall_counts_the_texts_whose_own_drawing_is_near_enough():
    similarity = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.5, 0.3], [0.9, 0.8, 0.1]])
    assert [recall(similarity, depth) for depth in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1])


def test_all_commands_of_the_recipe_are_run_from_random_weights(tmp_path):
    commands = steps("emoji", tmp_path / "data", tmp_path / "runs", tmp_path)
    assert [command[0].removeprefix("models.") for command in commands] == [
        "starters.emoji.train_images",
        "starters.emoji.train",
        "starters.emoji.export",
        "evaluate",
    ]
    assert not any("--start" in command for command in commands)
