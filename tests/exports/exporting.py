"""Export directories as a user makes them: by transformers and Optimum, with nothing added.

Import it after `pytest.importorskip("optimum.exporters.onnx")`: it needs the extra "train".
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from optimum.exporters.onnx import OnnxConfig, onnx_export_from_model
from transformers import PretrainedConfig, PreTrainedModel

torch.set_num_threads(1)


def seeded(model: type[PreTrainedModel], config: PretrainedConfig, seed: int = 0) -> Any:
    """Return a model of this architecture with random weights, the same for the same seed."""
    torch.manual_seed(seed)
    made = model(config).eval()
    # Initial weights are so small that every answer would look alike; a trained model's do not.
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if weight.dim() > 1 and "embed" not in name:
                weight.mul_(4)
            elif name.endswith("bias"):
                weight.normal_(0, 0.2)
    return made


def settled(model: Any, inputs: Any) -> Any:
    """Give batch norms the statistics of some inputs, as training would.

    Without them little of an image gets through a deep network, and every answer is the same.
    """
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        torch.nn.init.ones_(norm.weight)
        norm.reset_running_stats()
        norm.momentum = None
    if norms:
        torch.manual_seed(0)
        with torch.no_grad():
            model.train()(**inputs)
    return model.eval()


def export_directory(
    model: Any,
    processor: Any,
    folder: Path,
    task: str,
    opset: int = 18,
    architecture: type[OnnxConfig] | None = None,
) -> Path:
    """Write config.json, the processor's files and the graphs, as Optimum's command line does.

    Args:
        model: a transformers model.
        processor: its tokenizer, image processor or processor; None if it has none.
        folder: where to; made if it does not exist.
        task: Optimum's name of it, such as "text-classification".
        opset: of the graphs.
        architecture: inputs and outputs of a model that Optimum does not know.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]  # as saving a checkpoint does
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # advice for users, of no use in a test
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            custom = architecture and {"model": architecture(model.config, task=task)}
            onnx_export_from_model(
                model, folder, task=task, opset=opset, do_validation=False,
                custom_onnx_configs=custom,
            )  # fmt: skip
    finally:
        logging.disable(before)
    if processor is not None:
        processor.save_pretrained(folder)
    return folder
