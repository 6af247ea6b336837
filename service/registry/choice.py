"""Chooses what computes a version: by name, or among the candidates that can be tried."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from service.engine.device import DeviceRuntime
from service.errors import DeviceUnavailableError, ModelLoadError
from service.registry.candidates import Choice
from service.registry.opening import OpenVersion
from service.registry.trial import Option, Trial
from service.repository.exactness import Exactness
from service.repository.manifest import Manifest, Precision
from service.repository.repository import VersionFiles, has_default_precision
from service.runtime.providers import PROVIDERS, Device, InferencePrecision, alternatives

# Precisions of graphs that `fast` compares, if a manifest has them.
_COMPARED: tuple[Precision, ...] = ("fp32", "int8")

# A comparison of two engines that takes less time than this is noise.
_LEAST_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Chooser:
    """Chooses by the settings `models.provider` and `models.exactness`."""

    provider: str = "auto"
    exactness: Exactness | None = None
    """None is `close` for a version with goldens, else `strict`."""
    any_precision: bool = True
    """Whether the settings leave the precision of graphs to each model."""
    seconds: float = 0.0
    """Time to compare all candidates of a version; too little of it compares none."""

    @property
    def facts(self) -> Sequence[object]:
        """Return what a choice depends on besides the version and the machine."""
        never = self.seconds < _LEAST_SECONDS and self.provider == "auto"
        return [] if never else [self.provider, self.exactness, self.any_precision]

    def first(self, own: Device, manifest: Manifest) -> Device:
        """Return the first choice: the own device with the named provider, else as it is.

        Raises:
            ModelLoadError: the named provider is not one of this device.
            DeviceUnavailableError: it cannot be used.
        """
        name = self._named(manifest)
        if name in ("auto", own.kind):
            return own
        if name not in PROVIDERS or PROVIDERS[name].beside != own.kind:
            known = [own.kind, *(kind for kind, one in PROVIDERS.items() if one.beside == own.kind)]
            raise ModelLoadError(
                f"provider is {name!r}; on {own} it can be auto, {', '.join(known)}"
            )
        device = replace(own, kind=name)
        if problem := device.provider.problem(device):
            raise DeviceUnavailableError(problem)
        return device

    def options(self, own: Device, files: VersionFiles) -> Sequence[Option]:
        """Return what to try besides the first choice. May import a provider's library.

        Raises:
            ModelLoadError: the named provider is not one of the own device.
            DeviceUnavailableError: it cannot be used.
        """
        if self.seconds < _LEAST_SECONDS:
            return []
        exactness, first = self._exactness(files), self.first(own, files.manifest)
        is_auto = self._named(files.manifest) == "auto"
        devices = [first, *alternatives(first)] if is_auto else [first]
        found = [
            Option(precision, replace(device, inference_precision=number))
            for precision in self._precisions(own, files, exactness, len(devices) > 1)
            for device in devices
            for number in _numbers(device, exactness)
        ]
        return [option for option in found if option != Option(files.precision, first)]

    async def choose(
        self,
        runtime: DeviceRuntime,
        files: VersionFiles,
        version: OpenVersion,
        options: Sequence[Option],
        max_batch_size: int,
    ) -> tuple[VersionFiles, OpenVersion, Choice | None]:
        """Return the version as it is computed fastest; the same one if there is no other way.

        Only the single-thread sessions of the version are open, before and after.
        """
        if version.family.traits.signature is not None and not files.goldens:
            options = []  # nothing tells whether its answers are right
        if not options:
            return files, version, None
        first = self.first(runtime.device, files.manifest)
        trial = Trial(runtime, first, files, version, self._exactness(files), max_batch_size)
        await trial.begin()
        for option in options:
            await trial.attempt(option, self.seconds / len(options))
        return await trial.end()

    def _named(self, manifest: Manifest) -> str:
        return manifest.runtime.provider if self.provider == "auto" else self.provider

    def _exactness(self, files: VersionFiles) -> Exactness:
        return self.exactness or ("close" if files.goldens else "strict")

    def _precisions(
        self, own: Device, files: VersionFiles, exactness: Exactness, has_others: bool
    ) -> Sequence[Precision]:
        kind = own.provider.precisions_of
        if not self.any_precision or not has_default_precision(files, kind):
            return [files.precision]
        if exactness == "fast":
            also = [one for one in _COMPARED if one in files.manifest.graphs]
        else:  # float32 is more exact than what was asked for, and may be faster elsewhere
            also = ["fp32"] if has_others and "fp32" in files.manifest.graphs else []
        return list(dict.fromkeys([files.precision, *also]))


def _numbers(device: Device, exactness: Exactness) -> Sequence[InferencePrecision]:
    """Return what a device may compute float32 in; imports nothing for "strict"."""
    return ("f32",) if exactness == "strict" else device.provider.inference_precisions()


def others_of(choice: Choice | None, device: Device) -> Mapping[str, Device]:
    """Return the sessions that a choice has moved to other devices."""
    if choice is None:
        return {}
    return {
        name: replace(
            device,
            kind=one.provider,
            inference_precision=cast(InferencePrecision, one.inference_precision),
        )
        for one in choice.chosen
        for name in one.sessions
    }
