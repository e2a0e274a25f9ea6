"""What a run is made of: pieces of a model, a measurement, and a part of the images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

from harness.attacks.options import options_of
from harness.checks.validity import OF_ALL_LOTS, OF_NO_ATTACK, Attacks, Lot, lots_of
from harness.evaluation.checking import SUITES
from harness.evaluation.evaluation import Measures, first_of
from harness.maths.query import BATCH, COPIES, MEMORY
from harness.protocol import Attack, Images
from harness.results import keys
from harness.results.judge import CLEAN
from harness.saliency.occlusion import CHOICES

Kind: TypeAlias = Literal[
    "training", "basis", "probed", "clean", "attack", "certified", "minimal", "occluded",
    "explained", "suite",
]  # fmt: skip
COUNTED: tuple[Kind, ...] = ("clean", "attack", "certified", "minimal")
"""The kinds of which images are counted."""
PARTED: tuple[Kind, ...] = (*COUNTED, "probed")
"""The kinds that are measured of parts of the images; others of all at once."""
ONLY_SEEN: tuple[Kind, ...] = ("basis", "probed")
"""The kinds of which no record comes: the checks of validity look at them."""
OF_MODEL = "validity/of-model"
"""The checks of validity that look at no attack."""
FEWEST, FEWEST_UNKNOWN = 250, 8
"""Images of a part, at least: of a network that is built here, and of what may be slow."""
MOST = 16
"""Parts of a measurement, so that no worker waits long for the last."""
OF_SEARCH = 500
"""Forward passes, at a guess, of an attack that does not say its steps."""


class Wanted(NamedTuple):
    """What a record is asked to hold."""

    backend: str
    model: str
    check: str
    epsilon: float | None


@dataclass(frozen=True)
class Piece:
    """A piece of a run.

    Attributes:
        backend: Name of the backend.
        model: Name of the model.
        kind: What is done; ``training`` makes sure that a model is stored.
        name: Of the attack, the certifier, the method, the suite, or the lot of attacked images.
        epsilons: Those of a sweep, increasing.
        checks: The records that come of it where no images are counted, as they are called.
        start: The first image.
        stop: The one after the last; 0 where no part of the images is measured.
    """

    backend: str
    model: str
    kind: Kind
    name: str = ""
    epsilons: tuple[float, ...] = ()
    checks: tuple[str, ...] = ()
    start: int = 0
    stop: int = 0

    @property
    def whole(self) -> Piece:
        """The measurement that it is a part of."""
        return replace(self, start=0, stop=0)

    @property
    def part(self) -> slice:
        """Its images."""
        return slice(self.start, self.stop)

    @property
    def label(self) -> str:
        """For people: ``torch mlp pgd images 0 to 249``."""
        name = self.name or self.kind
        images = f" images {self.start} to {self.stop - 1}" if self.stop else ""
        return f"{self.backend} {self.model} {name}{images}"


def measurements(wanted: Iterable[Wanted], measures: Measures) -> list[Piece]:
    """The measurements that hold what is wanted, not yet in parts, in the order of the wanted.

    What the harness does not know, a check of somebody's own, is in none of them. Before what
    attacks a model there is its clean accuracy, which is looked at beside it.
    """
    found: dict[tuple[str, str, Kind, str], Piece] = {}
    for one in wanted:
        of = _kind_of(one.check, measures)
        if of is None:
            continue
        kind, name = of
        if kind in ("attack", "suite"):
            clean = (one.backend, one.model, "clean", "")
            found.setdefault(clean, Piece(one.backend, one.model, "clean"))  # type: ignore[arg-type]
        key = (one.backend, one.model, kind, name)
        piece = found.get(key, Piece(one.backend, one.model, kind, name))
        epsilons = piece.epsilons
        if one.epsilon is not None:
            epsilons = tuple(sorted({*epsilons, one.epsilon}))
        checks = dict.fromkeys([*piece.checks, one.check])
        found[key] = replace(piece, epsilons=epsilons, checks=tuple(checks))
    seen = [aid for piece in found.values() for aid in _aids(piece, measures)]
    return [*dict.fromkeys(seen), *found.values()]


def _aids(piece: Piece, measures: Measures) -> Iterator[Piece]:
    """What is measured for the checks of validity to look at."""
    if piece.kind != "suite" or piece.name not in ("validity", OF_MODEL):
        return
    yield Piece(piece.backend, piece.model, "basis", "validity/basis")
    rules = {check.partition("/")[2] for check in piece.checks}
    if rules & OF_ALL_LOTS:
        for lot in lots_of(Attacks(), measures.reported):
            yield Piece(piece.backend, piece.model, "probed", lot.name)


def _kind_of(check: str, measures: Measures) -> tuple[Kind, str] | None:
    """The kind of measurement that gives records of a name, and its own name."""
    if check == CLEAN:
        return "clean", ""
    if check in measures.sweeps:
        return "attack", check
    if (certifier := keys.certifier_of(check)) in measures.certified:
        return "certified", str(certifier)
    group, _, rest = check.partition("/")
    if group == "minimal-epsilon" and rest in measures.climbers:
        return "minimal", rest
    if group == "saliency":
        return ("occluded", "") if rest in CHOICES else ("explained", rest.rpartition("/")[0])
    if group == "saliency-sanity":
        return "suite", f"{group}/{rest.partition('/')[0]}"
    if group == "validity" and rest in OF_NO_ATTACK:
        return "suite", OF_MODEL
    return ("suite", group) if group in SUITES else None


def in_parts(
    piece: Piece,
    measures: Measures,
    x: Images,
    *,
    built: bool,
    batch: int | None = None,
    parts: int | None = None,
) -> list[Piece]:
    """A measurement in parts that are small enough to balance, and large enough to be worth it.

    Where there are enough images, parts end where batches do, so that each batch is computed as it
    would be without them.

    Args:
        piece: The measurement.
        measures: What is measured.
        x: The test images.
        built: Whether it is of a network that is built here.
        batch: Images at a time; what fits into memory if None.
        parts: In how many parts; as seems good if None.
    """
    if piece.kind not in PARTED:
        return [piece]
    count = _images(piece, measures, len(x))
    batch = batch or _batch(x)
    size = _size(count, batch, FEWEST if built else FEWEST_UNKNOWN)
    if parts is not None:
        size = max(1, math.ceil(count / parts))
        size = math.ceil(size / batch) * batch if size > batch else size
    starts = range(0, count, size)
    return [replace(piece, start=at, stop=min(at + size, count)) for at in starts]


def _images(piece: Piece, measures: Measures, count: int) -> int:
    asked: int | None = None
    if piece.kind == "attack":
        asked = measures.sweeps[piece.name].images
    if piece.kind == "certified":
        asked = measures.certified[piece.name].images
    if piece.kind == "minimal":
        asked = measures.minimal.images
    if piece.kind == "probed":
        asked = lot_of(piece, measures).images
    return int(first_of(asked, count).stop)


def _size(count: int, batch: int, fewest: int) -> int:
    """How many images a part has; the number of workers does not matter, so that it may change."""
    whole_batches = math.ceil(count / batch)
    if 2 * whole_batches >= MOST:
        return math.ceil(whole_batches / MOST) * batch
    parts = min(MOST, max(1, count // fewest))
    return max(1, math.ceil(count / parts))


def _batch(x: Images) -> int:
    """Images at a time, as far as is known without the model."""
    image = COPIES * x.dtype.itemsize * max(1, math.prod(x.shape[1:]))
    return max(1, min(BATCH, MEMORY // image))


def looked_at(piece: Piece, same: Iterable[Piece]) -> list[Piece]:
    """The pieces of the same model at whose outcome one looks.

    The checks of validity look at what attacks and certifiers found; those of the model alone at
    clean accuracy.
    """
    kinds: tuple[Kind, ...] = ()
    if piece.kind == "probed":
        kinds = ("basis",)
    elif piece.kind == "suite" and piece.name == OF_MODEL:
        kinds = ("basis", "clean")
    elif piece.kind == "suite" and piece.name == "validity":
        kinds = (*ONLY_SEEN, *COUNTED)
    return [one for one in same if one.kind in kinds]


def lot_of(piece: Piece, measures: Measures) -> Lot:
    """The lot of which a piece is."""
    return next(lot for lot in lots_of(Attacks(), measures.reported) if lot.name == piece.name)


def longest_first(pieces: Iterable[Piece], measures: Measures) -> list[Piece]:
    """The pieces in an order in which they should begin: trainings, then what takes long."""
    return sorted(pieces, key=lambda piece: -_cost(piece, measures))


def _cost(piece: Piece, measures: Measures) -> float:
    """About how many forward passes a piece takes."""
    if piece.kind in ("training", "basis", "clean"):
        return math.inf  # others wait for these, and people for the last
    if piece.kind not in PARTED:
        return 1e6  # waited for, or long
    count, epsilons = piece.stop - piece.start, max(1, len(piece.epsilons))
    if piece.kind == "attack":
        return float(count * epsilons * _steps(measures.sweeps[piece.name].attack))
    if piece.kind == "probed":
        lot = lot_of(piece, measures)
        return float(count * len(lot.points) * (_steps(lot.attack) if lot.attack else 1))
    return float(count * epsilons * OF_SEARCH)


def _steps(attack: Attack) -> float:
    """About how many forward passes an image takes."""
    steps = options_of(attack).get("steps", 1 if attack.name in ("fgsm", "noise") else OF_SEARCH)
    return float(steps) if isinstance(steps, int | float) else OF_SEARCH


def grouped(pieces: Iterable[Piece]) -> Iterator[tuple[Piece, list[Piece]]]:
    """Each measurement with its parts, in the order of the pieces."""
    found: dict[Piece, list[Piece]] = {}
    for piece in pieces:
        found.setdefault(piece.whole, []).append(piece)
    return iter(found.items())
