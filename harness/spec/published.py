"""What a paper reports, as one file: a spec that measures it again, and the numbers beside it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import SpecError, first_problem, one_line, unknown
from harness.spec.part import Epsilon, Part
from harness.spec.reading import checked, parsed, read_text, suites_folder
from harness.spec.spec import Spec
from harness.spec.units import is_number

CLEAN, CERTIFIED = "clean", "certified/"
KEYS = ("paper", "published")
"""What a table has beside the keys of a spec."""
Bound: TypeAlias = Literal["exact", "upper", "lower"]
Text: TypeAlias = Annotated[str, Field(min_length=1)]


class PaperSpec(Part):
    """Where numbers were published.

    Attributes:
        title: Of the paper.
        authors: Who wrote it.
        year: Of its publication.
        url: Where it is.
    """

    title: Text
    authors: Text
    year: Annotated[int, Field(ge=1900, le=2999)]
    url: str = ""


class NumberSpec(Part):
    """One number of a table.

    Attributes:
        check: ``clean``, the name of one of the spec's ``attacks``, or ``certified/`` and the name
            of one of its certifiers.
        percent: What is published: an accuracy, in percent of the images.
        images: So many test images it was measured on.
        source: Table or section, or whose measurement it is.
        epsilon: Radius in pixel units; none of clean accuracy.
        model: Of the spec; may be left out where there is only one.
        url: Of the source, if it is not the paper.
        budget: Of the published attack: steps, restarts, queries.
        smaller: What this harness's budget is, if it is smaller than that.
    """

    check: Text
    percent: Annotated[float, Field(ge=0.0, le=100.0)]
    images: Annotated[int, Field(ge=1)]
    source: Text
    epsilon: Epsilon | None = None
    model: str | None = None
    url: str = ""
    budget: str = ""
    smaller: str = ""

    @property
    def bound(self) -> Bound:
        """What the accuracy bounds."""
        if self.check == CLEAN:
            return "exact"
        return "lower" if self.check.startswith(CERTIFIED) else "upper"

    @property
    def label(self) -> str:
        """For people, and for ``--only``: ``clean``, ``pgd-40@0.3``."""
        return self.check if self.epsilon is None else f"{self.check}@{self.epsilon:g}"

    def named(self, name: str) -> bool:
        """Whether somebody who says this name means this number."""
        return name in (self.label, self.check, self.check.removeprefix(CERTIFIED))


class _Published(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    paper: PaperSpec
    published: Annotated[tuple[NumberSpec, ...], Field(min_length=1)]


class Table(Part):
    """A published table.

    Attributes:
        spec: Measures it.
        paper: Where it is from.
        numbers: Its numbers, of which each has a model.
    """

    spec: Spec
    paper: PaperSpec
    numbers: tuple[NumberSpec, ...]

    @property
    def name(self) -> str:
        """Of the table, and of its run."""
        return self.spec.name

    def chosen(self, names: Iterable[str]) -> tuple[NumberSpec, ...]:
        """The numbers of these names; all if there are none.

        Raises:
            SpecError: The table has none of a name.
        """
        names = list(names)
        for name in names:
            if not any(number.named(name) for number in self.numbers):
                raise SpecError(
                    one_line(
                        f"--only: {unknown(name, 'number', [one.label for one in self.numbers])}"
                    )
                )
        return tuple(
            one for one in self.numbers if not names or any(one.named(name) for name in names)
        )

    def of_first(self, images: int | None) -> Table:
        """The same table, of which no more than so many images are attacked or certified."""
        if images is None:
            return self
        sweeps = {
            section: {
                name: sweep.model_copy(update={"images": min(images, sweep.images or images)})
                for name, sweep in getattr(self.spec, section).items()
            }
            for section in ("attacks", "certified")
        }
        return self.model_copy(update={"spec": self.spec.model_copy(update=sweeps)})


def published_folder() -> Path:
    """The folder of the tables that ship with the suites."""
    return suites_folder() / "published"


def table_paths(name_or_path: str | None = None) -> list[Path]:
    """The files of tables: of one that is named, of a folder, or all that ship with the suites.

    Args:
        name_or_path: Name of a table of ``suites/published``, path of a ``.toml``, or a folder.

    Raises:
        SpecError: There is no such table, or none in the folder.
    """
    folder = published_folder() if name_or_path is None else Path(name_or_path)
    ours = sorted(published_folder().glob("*.toml"))
    if name_or_path is not None:
        by_name = [path for path in ours if path.stem == name_or_path]
        if by_name or folder.suffix == ".toml":
            return by_name or [folder]
        if not (name_or_path and folder.is_dir()):
            names = [path.stem for path in ours]
            raise SpecError(
                f"{unknown(name_or_path, 'table', names)} (or give a .toml file, or a folder)"
            )
    found = sorted(folder.glob("*.toml"))
    if not found:
        raise SpecError(f"{folder}: holds no .toml")
    return found


def load_table(path: Path) -> Table:
    """Read a table.

    Raises:
        SpecError: There is no such file, or its content is wrong; the message is one line.
    """
    table = parse_table(read_text(path), str(path))
    return table.model_copy(update={"spec": table.spec.model_copy(update={"home": path.parent})})


def parse_table(text: str, source: str) -> Table:
    """Validate the text of a table; ``source`` names it in errors.

    Raises:
        SpecError: The text is not TOML, or not a table.
    """
    document = parsed(text, source)
    rest = {key: value for key, value in document.items() if key not in KEYS}
    spec = checked(rest, Spec, source)
    own = {key: document[key] for key in KEYS if key in document}
    try:
        found = checked(_in_pixel_units(own, document.get("epsilon_unit")), _Published, source)
        numbers = tuple(
            _fitting(number, spec, f"published.{place}")
            for place, number in enumerate(found.published)
        )
        return Table(spec=spec, paper=found.paper, numbers=numbers)
    except ValidationError as error:
        raise SpecError(f"{source}: {first_problem(error)}") from error
    except ValueError as error:
        raise SpecError(f"{source}: {one_line(error)}") from error


def _in_pixel_units(said: dict[str, Any], unit: Any) -> dict[str, Any]:
    """Epsilons of numbers are in the unit of the spec."""
    numbers = said.get("published")
    if not is_number(unit) or not isinstance(numbers, list):
        return said
    return said | {
        "published": [
            one | {"epsilon": one["epsilon"] / unit}
            if isinstance(one, dict) and is_number(one.get("epsilon"))
            else one
            for one in numbers
        ]
    }


def _fitting(number: NumberSpec, spec: Spec, where: str) -> NumberSpec:
    """The number, of a model of the spec, which measures it.

    Raises:
        ValueError: It has no such model, or does not measure it.
    """
    model = number.model or next(iter(spec.models))
    if number.model is None and len(spec.models) > 1:
        raise ValueError(f"{where}.model: say which of {', '.join(spec.models)}")
    if model not in spec.models:
        raise ValueError(f"{where}.model: {unknown(model, 'model', spec.models)}")
    if number.check == CLEAN:
        if number.epsilon is not None:
            raise ValueError(f"{where}.epsilon: clean accuracy has none")
        return number.model_copy(update={"model": model})
    certified = number.bound == "lower"
    sweeps: dict[str, Any] = dict(spec.certified if certified else spec.attacks)
    name, section = number.check.removeprefix(CERTIFIED), "certified" if certified else "attacks"
    if name not in sweeps:
        raise ValueError(f"{where}.check: there is no [{section}.{name}], nor is it clean")
    if number.epsilon is None:
        raise ValueError(f"{where}.epsilon: missing; say the radius of {number.check}")
    near = [e for e in sweeps[name].epsilons if f"{e:g}" == f"{number.epsilon:g}"]
    if not near:
        raise ValueError(f"{where}.epsilon: {number.epsilon:g} is not in [{section}.{name}]")
    return number.model_copy(update={"model": model, "epsilon": near[0]})
