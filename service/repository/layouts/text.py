"""Text classifiers and sentence embedders."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from service.errors import ModelLoadError
from service.repository.layouts.config_json import label_facts, only_label
from service.repository.layouts.exports import (
    CONFIG,
    MODEL_ROLE,
    MODULES,
    SENTENCE_TRANSFORMERS,
    ExportFiles,
)
from service.repository.layouts.facts import (
    Fact,
    Finding,
    Layout,
    Unknown,
    graph_facts,
    graph_name,
    pixel_spec,
)
from service.repository.layouts.tokens import first_id, text_facts
from service.tasks import Task

_HEAD = "ForSequenceClassification"
_TAGS = "ForTokenClassification"
_RANK, _RANK_OF_TAGS = 2, 3
"""Axes of the scores of whole texts, and of those of tokens."""
_STEPS_OF_SPLADE = 2
_SCORE_BYTES = 256 * 1024 * 1024
"""Of the scores that a batch of the longest texts gives for every token of the vocabulary."""
_MOST_ROWS = 32
_VECTOR = "sentence_embedding"
_TOKENS = "token_embeddings"
_STATES = frozenset({"last_hidden_state", _TOKENS, _VECTOR})

_USUAL_PROMPTS = ("query", "document")
"""Names that every model of sentence-transformers has, with nothing behind them."""

_ACTIVATIONS: Final = {"Identity": "none", "Sigmoid": "sigmoid", "Softmax": "softmax"}
"""By the last part of torch's name."""

_POOLING: Final[Mapping[str, str]] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Keys of `1_Pooling/config.json` by what sentence-transformers calls them since version 5."""


def _is_classifier(files: ExportFiles) -> str | None:
    if is_reranker(files):
        return f"{SENTENCE_TRANSFORMERS}: model_type"
    if files.architecture.endswith(_HEAD):
        return f"{CONFIG}: architectures"
    return _by_scores(files, _RANK)


def _by_scores(files: ExportFiles, rank: int) -> str | None:
    """Know a head by the axes of its scores, where config.json names no architecture."""
    if files.architecture or not files.model_type or MODEL_ROLE not in files.graphs:
        return None
    signature = files.signature()
    scores = signature.outputs.get("logits")
    takes_only_text = "input_ids" in signature.inputs and pixel_spec(signature) is None
    if takes_only_text and len(signature.outputs) == 1 and scores and len(scores.shape) == rank:
        return f"{graph_name(files)}: its inputs and outputs"
    return None


def _is_token_classifier(files: ExportFiles) -> str | None:
    if files.architecture.endswith(_TAGS):
        return f"{CONFIG}: architectures"
    # Scores of the words of a vocabulary have as many axes, but their labels have no names.
    return _by_scores(files, _RANK_OF_TAGS) if "id2label" in files.config else None


def _read_token_classifier(files: ExportFiles) -> Iterator[Finding]:
    yield from graph_facts(files, {"model": MODEL_ROLE})
    yield from label_facts(files)
    yield from text_facts(files)


def _read_classifier(files: ExportFiles) -> Iterator[Finding]:
    yield from graph_facts(files, {"model": MODEL_ROLE})
    yield from label_facts(files)
    yield from _activation(files)
    yield from text_facts(files)
    # transformers' encoder-decoders read the text at its last end token, and refuse such batches.
    if files.config.get("is_encoder_decoder") is True:
        if (end := first_id(files.config.get("eos_token_id"))) is not None:
            yield Fact("parameters.eos_id", end, f"{CONFIG}: is_encoder_decoder, eos_token_id")
        else:
            yield Unknown(
                "parameters.eos_id", f"{CONFIG} does not tell it: eos_token_id is missing"
            )


def _activation(files: ExportFiles) -> Iterator[Finding]:
    """Tell what makes scores of logits.

    What sentence-transformers writes of a cross encoder counts first, then the rules of
    transformers' pipeline.
    """
    key = "parameters.activation"
    for declared, source in _named_activations(files):
        # A function that is not torch's own is code, which sentence-transformers does not run.
        if isinstance(declared, str) and declared.startswith("torch."):
            name = declared.rpartition(".")[2]
            if name in _ACTIVATIONS:
                yield Fact(key, _ACTIVATIONS[name], source)
            else:
                yield Unknown(key, f"{source} is {name}, which is not served")
            return
    problem = files.config.get("problem_type")
    if problem == "regression":
        yield Fact(key, "none", f"{CONFIG}: problem_type")
    elif problem == "multi_label_classification":
        yield Fact(key, "sigmoid", f"{CONFIG}: problem_type")
    elif alone := only_label(files):
        yield Fact(key, "sigmoid", alone)
    else:
        source = "problem_type" if problem else "id2label has several labels"
        yield Fact(key, "softmax", f"{CONFIG}: {source}")


def _named_activations(files: ExportFiles) -> Iterator[tuple[Any, str]]:
    """Yield where sentence-transformers names the function, in its order."""
    yield (
        files.sentence_transformers.get("activation_fn"),
        f"{SENTENCE_TRANSFORMERS}: activation_fn",
    )
    own = files.config.get("sentence_transformers")
    if isinstance(own, Mapping) and "activation_fn" in own:
        yield own["activation_fn"], f"{CONFIG}: sentence_transformers.activation_fn"
    else:
        older = "sbert_ce_default_activation_function"
        yield files.config.get(older), f"{CONFIG}: {older}"


def is_reranker(files: ExportFiles) -> bool:
    """Tell whether sentence-transformers saved it as a cross encoder with a head of scores."""
    if files.sentence_transformers.get("model_type") != "CrossEncoder":
        return False
    _, step = files.sentence_bert
    is_head = files.architecture.endswith(_HEAD) or (
        step.get("transformer_task") == "sequence-classification"
    )
    return is_head and len(files.modules) <= 1


def _is_embedder(files: ExportFiles) -> str | None:
    """Know a text model by its steps, or by an output that is a vector or states."""
    steps = [str(step.get("type", "")) for step in files.modules]
    if _is_classifier(files) and len(steps) < 2:  # noqa: PLR2004 - nothing makes a vector of scores
        return None
    if steps and steps[0].rpartition(".")[2] == "Transformer":
        return MODULES
    if files.modules or MODEL_ROLE not in files.graphs:
        return None
    signature = files.signature()
    takes_only_text = "input_ids" in signature.inputs and "pixel_values" not in signature.inputs
    if takes_only_text and _VECTOR in signature.outputs:
        return f"{graph_name(files)}: its output {_VECTOR}"
    if takes_only_text and files.architecture.endswith("Model") and _STATES & {*signature.outputs}:
        return f"{CONFIG}: architectures"
    return None


def _read_embedder(files: ExportFiles) -> Iterator[Finding]:
    yield from graph_facts(files, {"model": MODEL_ROLE})
    yield from text_facts(files)
    yield from _prompts(files)
    if (width := files.sentence_transformers.get("truncate_dim")) is not None:
        yield Fact("parameters.truncate_dim", width, f"{SENTENCE_TRANSFORMERS}: truncate_dim")
    if files.graphs.get(MODEL_ROLE) and _VECTOR in files.signature().outputs:
        source = f"{graph_name(files)}: its output {_VECTOR}"
        yield Fact("parameters.pooling", "none", source)
        yield Fact("parameters.normalize", False, source)
        if _TOKENS in files.signature().outputs:
            yield Fact("parameters.token_output", _TOKENS, f"{graph_name(files)}: its outputs")
    elif files.modules:
        yield from _steps(files)
    else:
        yield Unknown("parameters.pooling", f"there is no {MODULES} that tells the pooling")


def _steps(files: ExportFiles) -> Iterator[Finding]:
    """Tell what follows the transformer.

    Raises:
        ModelLoadError: a step is neither pooling nor normalisation.
    """
    normalizes = False
    for step in files.modules[1:]:
        kind = str(step.get("type", "")).rpartition(".")[2]
        if kind == "Pooling":
            yield from _pooling(files, f"{step.get('path')}/{CONFIG}")
        elif kind == "Normalize":
            normalizes = True
        elif kind != "Dropout":
            raise ModelLoadError(
                f"{MODULES} has a step {kind}, which is not in the graph and not known here: "
                f"export the whole model, so that its graph gives {_VECTOR}"
            )
    yield Fact("parameters.normalize", normalizes, MODULES)


def _pooling(files: ExportFiles, name: str) -> Iterator[Finding]:
    table = files.table(name)
    declared = table.get("pooling_mode")
    modes = [declared] if isinstance(declared, str) else list(declared or ())
    modes = modes or [mode for key, mode in _POOLING.items() if table.get(key)]
    if len(modes) == 1 and modes[0] in _POOLING.values():
        yield Fact("parameters.pooling", modes[0], f"{name}: pooling_mode")
    else:
        yield Unknown("parameters.pooling", f"{name} does not name one way of pooling")
    if table.get("include_prompt") is False:
        yield Fact("parameters.pools_prompt", False, f"{name}: include_prompt")


def _prompts(files: ExportFiles) -> Iterator[Finding]:
    """Tell the prompts; one that is null is none, and sentence-transformers knows two names."""
    table: Mapping[str, Any] = files.sentence_transformers
    prompts = table.get("prompts")
    named = {str(n): "" if p is None else str(p) for n, p in (prompts or {}).items()}
    default = table.get("default_prompt_name")
    if isinstance(default, str) and default in _USUAL_PROMPTS:
        named.setdefault(default, "")
    if named:
        yield Fact("parameters.prompts", named, f"{SENTENCE_TRANSFORMERS}: prompts")
        if isinstance(default, str):
            source = f"{SENTENCE_TRANSFORMERS}: default_prompt_name"
            yield Fact("parameters.default_prompt_name", default, source)


def _is_sparse(files: ExportFiles) -> str | None:
    return MODULES if _splade(files) is not None else None


def _splade(files: ExportFiles) -> Mapping[str, Any] | None:
    """Return the step that makes sparse vectors of scores of the vocabulary."""
    kinds = {str(step.get("type", "")).rpartition(".")[2]: step for step in files.modules}
    return kinds.get("SpladePooling")


def _read_sparse(files: ExportFiles) -> Iterator[Finding]:
    """Tell how scores of the vocabulary become weights.

    Raises:
        ModelLoadError: there are other steps, such as a table of weights for queries.
    """
    yield from graph_facts(files, {"model": MODEL_ROLE})
    yield from text_facts(files)
    step = _splade(files)
    if step is None:
        return  # model.toml names the family, and has the parameters
    if len(files.modules) != _STEPS_OF_SPLADE:
        raise ModelLoadError(f"{MODULES} has other steps than a transformer and SpladePooling")
    name = f"{step.get('path')}/{CONFIG}"
    for key, own in (("pooling_strategy", "pooling"), ("activation_function", "activation")):
        if (value := files.table(name).get(key)) is not None:
            yield Fact(f"parameters.{own}", value, f"{name}: {key}")
    if not files.graphs.get(MODEL_ROLE):
        return
    shape = next(iter(files.signature().outputs.values())).shape
    vocabulary = shape[-1] if shape and shape[-1] is not None else files.config.get("vocab_size")
    longest = files.config.get("max_position_embeddings")
    if isinstance(vocabulary, int) and isinstance(longest, int):
        most = max(1, min(_MOST_ROWS, _SCORE_BYTES // (4 * vocabulary * longest)))
        yield Fact("batching.max_batch_size", most, f"{graph_name(files)}: size of its scores")


LAYOUTS: Final = (
    Layout(Task.SPARSE, "sparse_embedder", _is_sparse, _read_sparse),
    Layout(Task.EMBED, "text_embedder", _is_embedder, _read_embedder),
    Layout(Task.CLASSIFY, "text_classifier", _is_classifier, _read_classifier),
    Layout(Task.TAG, "token_classifier", _is_token_classifier, _read_token_classifier),
)
