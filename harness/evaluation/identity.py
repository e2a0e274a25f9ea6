"""What decides the outcome of a piece of a run, and so whether one that is stored still holds."""

from __future__ import annotations

import hashlib
import inspect
import sys
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.attacks.options import CERTIFIER, options_of
from harness.evaluation.benchmark import Benchmark
from harness.evaluation.pieces import OF_MODEL, Piece, lot_of
from harness.executors import Stamp, own_stamp
from harness.files import as_json, model_path
from harness.maths.adaptive import StandsIn
from harness.maths.around import Around, innermost
from harness.registry import BACKENDS, OWN, PLUGINS
from harness.saliency.methods import METHODS
from harness.spec.own import OwnModelSpec


class Identities:
    """Keys of the pieces of a benchmark: two that are equal are of the same numbers.

    Into a key go the code of the harness, the versions of Python and of all packages that compute,
    the data, the model, and all options of the measurement. A model whose weights cannot be read,
    a function or an endpoint, is never the same one.

    Args:
        benchmark: What is measured.
        backends: The backends in use.
    """

    def __init__(self, benchmark: Benchmark, backends: Iterable[str]) -> None:
        self.benchmark = benchmark
        names = {*backends} & {*BACKENDS}
        packages = [package for name in sorted(names & {*OWN}) for package in OWN[name].needs]
        packages += [BACKENDS.package_of(name).partition(" ")[0] for name in sorted(names - {*OWN})]
        self.stamp: Stamp = own_stamp(["scipy", *packages], benchmark.dataset.sha256)
        self._models: dict[tuple[str, str], str] = {}
        self._unknown: set[tuple[str, str]] = set()

    def known(self, piece: Piece) -> bool:
        """Whether the model of a piece can be told from others, so that it is found again."""
        _ = self._model(piece.backend, piece.model)
        return (piece.backend, piece.model) not in self._unknown

    def key(self, piece: Piece, looked_at: Sequence[str] = ()) -> str:
        """The key of a piece.

        Args:
            piece: The piece.
            looked_at: Keys of the pieces at whose outcome it looks.
        """
        said = {
            "stamp": self._stamped,
            "plugins": dict(PLUGINS),
            "model": self._model(piece.backend, piece.model),
            "kind": piece.kind,
            "name": piece.name,
            "epsilons": piece.epsilons,
            "checks": piece.checks,
            "images": [piece.start, piece.stop],
            "asked": self._asked(piece),
            "looked at": looked_at,
        }
        return hashlib.sha256(as_json(said).encode()).hexdigest()

    @cached_property
    def _stamped(self) -> list[Any]:
        data = self.benchmark.spec.data.model_dump(mode="json")
        return [dict(self.stamp.versions), self.stamp.code, self.stamp.data, data]

    def _asked(self, piece: Piece) -> Any:
        """All options of a measurement."""
        spec, measures = self.benchmark.spec, self.benchmark.measures
        evaluation = self.benchmark.evaluation(piece.backend, piece.model)
        common: dict[str, Any] = {
            "seed": spec.seed,
            "device": spec.device,
            "batch_size": spec.batch_size,
        }
        if piece.kind == "basis" or piece.name == OF_MODEL:
            return common
        if piece.kind == "probed":
            lot = lot_of(piece, measures)
            told: dict[str, Any] = {"points": lot.points}
            if lot.attack is not None:
                told |= {"attack": options_of(lot.attack), "source": source_of(lot.attack)}
            return common | told
        common["examples"] = evaluation.examples.index.tolist()
        if piece.kind == "attack":
            attack = measures.sweeps[piece.name].attack
            return common | {"attack": options_of(attack), "source": source_of(attack)}
        if piece.kind == "certified":
            certifier = measures.certified[piece.name].certifier
            told = options_of(certifier, CERTIFIER)
            return common | {"certifier": told, "source": source_of(certifier)}
        if piece.kind == "minimal":
            attack = measures.climbers[piece.name]
            limit = measures.minimal.limit
            return common | {"attack": options_of(attack), "limit": limit}
        if piece.kind in ("occluded", "explained"):
            common["saliency"] = measures.saliency.model_dump(mode="json", exclude={"sanity"})
        if piece.kind == "suite":
            common["saliency"] = measures.saliency.model_dump(mode="json")
        if piece.kind == "suite" and piece.name == "validity":
            common["reported"] = {
                name: [options_of(sweep.attack), sweep.epsilons]
                for name, sweep in measures.sweeps.items()
            }
        method = piece.name if piece.kind == "explained" else piece.name.rpartition("/")[2]
        if method in METHODS:
            common["method"] = source_of(METHODS[method])
        return common

    def _model(self, backend: str, name: str) -> str:
        pair = (backend, name)
        if pair not in self._models:
            self._models[pair] = self._identity(backend, name)
        return self._models[pair]

    def _identity(self, backend: str, name: str) -> str:
        spec = self.benchmark.spec
        model = spec.models[name]
        said: dict[str, Any] = {"backend": backend, "seed": spec.seed}
        said["spec"] = model.model_dump(mode="json", exclude={"expect"})
        if not isinstance(model, OwnModelSpec):
            # Trained here, of all that is said; or refused, whatever is stored.
            return as_json(said)
        if model.file is not None and (path := model_path(model.file, spec.home)).is_file():
            return as_json(said | {"file": _sha256(path)})
        found = self.benchmark.own(name, backend)
        about = getattr(found, "about", None)
        weights = about().identity if callable(about) else ""
        # Of what stands in for a gradient, or is applied to images, nothing tells the content.
        if not weights or _stands_in(found):
            self._unknown.add((backend, name))
            return uuid.uuid4().hex
        said |= {"weights": weights, "source": source_of(getattr(innermost(found), "net", None))}
        if model.load is not None:
            said["factory"] = source_of(sys.modules.get(model.load.partition(":")[0]))
        return as_json(said)


def _stands_in(model: Any) -> bool:
    while isinstance(model, Around):
        if isinstance(model, StandsIn):
            return True
        model = model.inner
    return False


def source_of(thing: Any) -> str:
    """SHA-256 of the file that defines somebody else's attack, certifier, method or network.

    Empty of what is the harness's own, whose code is in the stamp already, or has no such file.
    """
    named = inspect.isclass(thing) or inspect.isroutine(thing) or inspect.ismodule(thing)
    kind = thing if named else type(thing)
    if str(getattr(kind, "__module__", "")).partition(".")[0] in ("harness", "backends"):
        return ""
    with suppress(TypeError, OSError):
        if (path := inspect.getsourcefile(kind)) is not None:
            return _sha256(Path(path))
    return ""


def _sha256(path: Path) -> str:
    content = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            content.update(chunk)
    return content.hexdigest()
