"""One benchmark as plain data, frozen and validated; what its names mean is looked up elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from harness.errors import unknown
from harness.files import fingerprint
from harness.names import Name
from harness.spec.gate import GateSettings
from harness.spec.grid import GridSpec
from harness.spec.measures import MeasuresSpec, SweepSpec
from harness.spec.models import AnyModelSpec, DataSpec, ModelSpec


class Spec(MeasuresSpec):
    """One benchmark: data, models, attacks and expectations.

    Grid and gate change no measurement, so they are in no dump of the spec and not in its hash.

    Attributes:
        description: What it is for.
        backends: In which models are trained and measured; others run where they belong.
        data: The images.
        models: By their names.
        grid: What ``harness search`` tries.
        gate: What the gate lets pass.
        home: The folder that paths in it are relative to, and that functions are looked for in.
    """

    SILENT: ClassVar[tuple[str, ...]] = (*MeasuresSpec.SILENT, "backends")

    description: str = ""
    backends: Annotated[tuple[str, ...], Field(min_length=1)] = ()
    data: DataSpec
    models: Annotated[dict[Name, AnyModelSpec], Field(min_length=1)]
    grid: GridSpec | None = Field(default=None, exclude=True)
    gate: GateSettings = Field(default=GateSettings(), exclude=True)
    home: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="after")
    def _trained_somewhere(self) -> Spec:
        if self.trained and not self.backends:
            raise ValueError(f"backends: name those in which {next(iter(self.trained))} is trained")
        return self

    @model_validator(mode="after")
    def _expectations_are_measured(self) -> Spec:
        for name, model in self.models.items():
            if model.expect is None:
                continue
            for section, sweeps in self._sweeps.items():
                for sweep, ranges in getattr(model.expect, section).items():
                    where = f"models.{name}.expect.{section}.{sweep}"
                    if sweep not in sweeps:
                        raise ValueError(f"{where}: there is no [{section}.{sweep}]")
                    for epsilon in ranges:
                        if epsilon not in sweeps[sweep].epsilons:
                            raise ValueError(f"{where}: epsilon {epsilon:g} is not in the sweep")
        return self

    @model_validator(mode="after")
    def _tolerances_are_of_checks(self) -> Spec:
        swept: dict[str, SweepSpec] = {
            **self.attacks, **{f"certified/{name}": one for name, one in self.certified.items()}
        }  # fmt: skip
        known = {"clean", *swept} | {
            f"{name}@{epsilon:g}" for name, sweep in swept.items() for epsilon in sweep.epsilons
        }
        for name in self.gate.tolerances:
            if name not in known:
                raise ValueError(
                    f"gate.tolerances.{name}: no such check; use clean, the name of an attack, "
                    "certified/NAME of a certifier, or NAME@EPSILON with an epsilon of its sweep"
                )
        return self

    @model_validator(mode="after")
    def _searched_model_exists(self) -> Spec:
        wanted = self.grid.model if self.grid else None
        if wanted is not None and wanted not in self.models:
            raise ValueError(f"grid.model: {unknown(wanted, 'model', self.models)}")
        if wanted is not None and wanted not in self.trained:
            raise ValueError(f"grid.model: {wanted} is not trained here")
        return self

    @property
    def _sweeps(self) -> dict[str, Mapping[str, SweepSpec]]:
        """What is swept, by section and name."""
        return {"attacks": self.attacks, "certified": self.certified}

    @property
    def trained(self) -> dict[str, ModelSpec]:
        """The models that the harness trains."""
        return {name: one for name, one in self.models.items() if isinstance(one, ModelSpec)}

    @property
    def sha256(self) -> str:
        """Hash of what the spec says (not of how the file is laid out)."""
        return fingerprint(self.model_dump(mode="json"))
