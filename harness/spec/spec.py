"""One benchmark as plain data, frozen and validated; what its names mean is looked up elsewhere."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from harness.errors import unknown
from harness.files import fingerprint
from harness.names import Name
from harness.spec.gate import GateSettings
from harness.spec.grid import GridSpec
from harness.spec.measures import MeasuresSpec
from harness.spec.models import DataSpec, ModelSpec


class Spec(MeasuresSpec):
    """One benchmark: data, models, attacks and expectations.

    Grid and gate change no measurement, so they are in no dump of the spec and not in its hash.
    """

    description: str = ""
    backends: Annotated[tuple[str, ...], Field(min_length=1)]
    data: DataSpec
    models: Annotated[dict[Name, ModelSpec], Field(min_length=1)]
    grid: GridSpec | None = Field(default=None, exclude=True)
    gate: GateSettings = Field(default=GateSettings(), exclude=True)

    @model_validator(mode="after")
    def _expectations_are_measured(self) -> Spec:
        for name, model in self.models.items():
            for attack, ranges in model.expect.attacks.items():
                where = f"models.{name}.expect.attacks.{attack}"
                if attack not in self.attacks:
                    raise ValueError(f"{where}: there is no [attacks.{attack}]")
                for epsilon in ranges:
                    if epsilon not in self.attacks[attack].epsilons:
                        raise ValueError(f"{where}: epsilon {epsilon:g} is not in the sweep")
        return self

    @model_validator(mode="after")
    def _tolerances_are_of_checks(self) -> Spec:
        known = {"clean", *self.attacks} | {
            f"{name}@{epsilon:g}"
            for name, sweep in self.attacks.items()
            for epsilon in sweep.epsilons
        }
        for name in self.gate.tolerances:
            if name not in known:
                raise ValueError(
                    f"gate.tolerances.{name}: no such check; use clean, the name of an attack, or "
                    "ATTACK@EPSILON with an epsilon of its sweep"
                )
        return self

    @model_validator(mode="after")
    def _searched_model_exists(self) -> Spec:
        wanted = self.grid.model if self.grid else None
        if wanted is not None and wanted not in self.models:
            raise ValueError(f"grid.model: {unknown(wanted, 'model', self.models)}")
        return self

    @property
    def sha256(self) -> str:
        """Hash of what the spec says (not of how the file is laid out)."""
        return fingerprint(self.model_dump(mode="json"))
