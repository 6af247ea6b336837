"""Settings of models, the device and loading."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from service.errors import InvalidInputError, ModelLoadError
from service.registry.aliases import Aliases
from service.repository.exactness import Exactness
from service.repository.manifest import Precision
from service.repository.paths import MODEL_NAME
from service.repository.pull.reference import is_reference, parse_reference
from service.repository.tables import did_you_mean
from service.settings.section import Count, Names, Numbers, Seconds, Section, SettingsError, Words

_DEFAULTS_OF = (
    "classify.text",
    "classify.image",
    "translate.text",
    "generate.text",
    "detect.image",
    "embed.text",
    "embed.image",
    "zero-shot.text",
    "zero-shot.image",
    "rerank.text",
)

_Folder: TypeAlias = Annotated[
    Path | None, BeforeValidator(lambda value: None if value == "none" else value)
]


class ModelSettings(Section):
    """Models, device and loading."""

    repository: Path = Field(
        Path("models/repository"), description="Model repository: a folder of `<model>/<version>/`."
    )
    serve: Words = Field(
        {},
        description="Models by name, `minilm=hf://org/name,mine=exports/mine`: pulled at start if "
        "they are not in the repository, or served from a folder. Only these and those of "
        "`only` are loaded.",
    )
    only: Names = Field((), description="Models to load, `a,b`; empty means all.")
    versions: Numbers = Field(
        {},
        description="Versions to load, `model=2,other=1`; of other models the newest that loads.",
    )
    defaults: Words = Field(
        {},
        description="Default models of requests that name none, `classify.text=a,embed.image=b`; "
        "for other tasks the only model that can answer.",
    )
    aliases: Words = Field(
        {},
        description="Aliases of versions, `model@alias=2`; `model@default=1:95+2:5` gives versions "
        "shares of the requests that name none.",
    )
    state_file: Path | None = Field(
        None,
        description="File that keeps aliases set over HTTP; they win over `aliases`. Unset forgets "
        "them at a restart.",
    )
    precision: Precision | None = Field(
        None,
        description="Precision of all models, such as `int8`; unset uses each model's default.",
    )
    device: str = Field(
        "auto", description="`cpu`, `cuda:N`, or `auto` for the best available device."
    )
    provider: str = Field(
        "auto",
        description="Execution provider of all models: `cpu` or `cuda` (ONNX Runtime's), "
        "`openvino`, `tensorrt`; `auto` measures which one is fastest, unless a manifest names "
        "one. See `docs/performance.md`.",
    )
    exactness: Exactness | None = Field(
        None,
        description="How far the fastest provider's answers may be from the original's: `strict` "
        "(float32 arithmetic), `close` (equal decisions, scores within 0.01), `fast` (also other "
        "precisions, within the manifest's tolerance); unset is `close` for models with goldens, "
        "else `strict`.",
    )
    device_memory_bytes: Count | None = Field(
        None, description="GPU memory limit per session; unset means no limit."
    )
    threads: Annotated[int, Field(ge=0)] = Field(
        0, description="CPU cores for inference; 0 means all that the process may use."
    )
    max_decoding_pixels: Count = Field(
        100_000_000,
        description="Pixels decoded at the same time, 8 bytes each; further images wait.",
    )
    warm_up_seconds: Seconds = Field(
        2.0, description="Time limit for measuring batches at warm-up, per queue of a model."
    )

    measurements: _Folder = Field(
        Path("~/.cache/quartet"),
        description="Folder that keeps what loads have measured, for faster starts; `none` keeps "
        "nothing.",
    )
    memory_bytes: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Memory of all loaded models, on a GPU its own; models are then loaded at "
        "their first request, and idle ones are evicted for others. 0 sets no limit and loads "
        "all at start.",
    )
    pinned: Names = Field(
        (),
        description="Models that are loaded at start and never evicted, `a,b`, where "
        "`memory_bytes` is set.",
    )
    load_timeout_seconds: Seconds = Field(
        600.0, description="Time limit of a load, after which it is cancelled."
    )

    @property
    def folders(self) -> Mapping[str, Path]:
        """Return the models that `serve` names with a folder."""
        return {
            name: Path(place).expanduser()
            for name, place in self.serve.items()
            if not is_reference(place)
        }

    def read_aliases(self) -> Aliases:
        """Return the aliases of `aliases` and of the state file.

        Raises:
            SettingsError: one of them cannot be an alias, or the file cannot be read.
        """
        try:
            return Aliases(self.aliases, self.state_file)
        except InvalidInputError as error:
            raise SettingsError(f"models.aliases: {error}") from None

    @model_validator(mode="after")
    def _serves_models(self) -> Self:
        for name, place in self.serve.items():
            if not MODEL_NAME.fullmatch(name):
                raise ValueError(f"serve: {name[:100]!r} cannot be a model's name")
            if is_reference(place):
                try:
                    parse_reference(place)
                except ModelLoadError as error:
                    raise ValueError(f"serve: {name}: {error}") from None
        return self

    @model_validator(mode="after")
    def _has_known_tasks(self) -> Self:
        for name in self.defaults:
            if name not in _DEFAULTS_OF:
                raise ValueError(f"defaults cannot name {name}{did_you_mean(name, _DEFAULTS_OF)}")
        return self
