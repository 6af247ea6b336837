"""The exported graphs of a tiny translator against the network they came from."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from models.export.onnx_graphs import (  # noqa: E402
    round_to_fp16,
    save_graph,
    store_weights_as_fp16,
)
from models.export.translation_graphs import (  # noqa: E402
    decoder_graph,
    encoder_graph,
    quantised_decoder,
    quantised_encoder,
)
from models.export.translation_parity import ComparedSteps, OnnxSteps, compare  # noqa: E402
from models.training.translation_model import Translator, TranslatorSizes  # noqa: E402
from models.training.translation_search import TorchSteps, search  # noqa: E402
from service.families.decoding import Decoding  # noqa: E402

SIZES = TranslatorSizes(60, 50, 128, 128, 2, 1, 128, 2, 128)
ROWS = [[7, 8, 9, 10, 2], [11, 2], [12, 13, 2], [2]]
DECODINGS = [Decoding(1, 1.0, 12), Decoding(4, 1.0, 12)]


@pytest.fixture(scope="module")
def model() -> Translator:
    torch.manual_seed(0)
    model = Translator(SIZES).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    round_to_fp16(model)
    return model


@pytest.fixture(scope="module")
def folder(model: Translator, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("zh-en")
    encoder, decoder = encoder_graph(model), decoder_graph(model)
    save_graph(store_weights_as_fp16(encoder), folder / "encoder.onnx")
    save_graph(store_weights_as_fp16(decoder), folder / "decoder.onnx")
    save_graph(quantised_encoder(encoder), folder / "encoder_int8.onnx")
    save_graph(quantised_decoder(decoder), folder / "decoder_int8.onnx")
    return folder


@pytest.fixture
def fp32(folder: Path) -> OnnxSteps:
    return OnnxSteps(folder / "encoder.onnx", folder / "decoder.onnx", SIZES)


@pytest.fixture
def int8(folder: Path) -> OnnxSteps:
    return OnnxSteps(folder / "encoder_int8.onnx", folder / "decoder_int8.onnx", SIZES)


@pytest.mark.parametrize("decoding", DECODINGS, ids=["greedy", "beams"])
def test_the_onnx_loop_finds_the_same_tokens_as_pytorch(model, fp32, decoding) -> None:
    parity = compare(TorchSteps(model), fp32, ROWS, decoding)
    assert parity.different == 0
    assert parity.logprobs < 1e-4


def test_logprobs_are_normalised(fp32) -> None:
    fp32.begin(ROWS[:2])
    rows = np.arange(2)
    logprobs = fp32.step(np.array([1, 1]), rows, rows)
    np.testing.assert_allclose(np.exp(logprobs).sum(axis=1), 1.0, rtol=1e-5)


def test_int8_stays_near_fp32(model, int8) -> None:
    compared = ComparedSteps(TorchSteps(model), int8)
    search(compared, ROWS, DECODINGS[0])
    assert 0.0 < compared.largest_difference < 0.2


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("decoding", DECODINGS, ids=["greedy", "beams"])
def test_an_answer_does_not_depend_on_its_neighbours(request, precision, decoding) -> None:
    steps = request.getfixturevalue(precision)
    together = search(steps, ROWS, decoding)
    assert [search(steps, [row], decoding)[0] for row in ROWS] == together


def test_the_tied_table_is_stored_once_in_int8(folder: Path) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(folder / "decoder_int8.onnx").graph
    tables = [w for w in graph.initializer if np.prod(w.dims) == 50 * 128]
    assert [table.data_type for table in tables] == [onnx.TensorProto.UINT8]
