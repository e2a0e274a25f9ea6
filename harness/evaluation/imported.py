"""Networks of files: built in a framework; of ONNX files that do not fit, black boxes."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from harness import registry
from harness.checks.sanity.randomised import cascade
from harness.errors import BackendError, MeasurementError, one_line, unknown
from harness.files import fingerprint
from harness.maths.adaptive import is_randomised, is_transformed
from harness.maths.around import Around, BlackBox, Preprocessed
from harness.maths.outputs import Outputs
from harness.maths.query import logits_of
from harness.networks.description import described
from harness.networks.initial import initial_weights
from harness.networks.onnx.graph import GraphError
from harness.networks.onnx.reading import Read, read_network
from harness.networks.weights import network_of_file, read_weights
from harness.protocol import (
    About,
    Architecture,
    ArchitectureError,
    DifferentiableModel,
    FloatArray,
    Model,
    Network,
    Optimizer,
    Scale,
    Trainer,
    Weights,
    Wrapping,
)

SUFFIX = ".onnx"
RUNTIME = "onnx"
"""The backend of files that are black boxes."""
COMPARED = 4
"""Images on which a network that was read is held against ONNX Runtime."""
TOLERANCE = 1e-4
"""By how much the two may differ, as a share of the largest output: float32 rounding in deep
networks is below a hundredth of it, and an operator that was read wrongly is far above."""


class Imported(Around):
    """A network that was read from a file, built in a framework.

    Args:
        inner: The model that was built.
        read: What was read.
        backend: Name of the framework's backend.
        how: How it is called.
        path: The file.
        kind: What it is a file of.

    Attributes:
        notes: What a reader of its numbers should know.
    """

    def __init__(
        self, inner: Model, read: Read, backend: str, how: Wrapping, path: Path,
        kind: str = "ONNX file",
    ) -> None:  # fmt: skip
        super().__init__(inner)
        self.read, self.backend, self.how, self.path = read, backend, how, path
        self.kind = kind
        self.notes: list[str] = []
        if read.end:
            self.notes.append(
                f"{path.name}: the {read.end} at its end is left out, and what comes before it "
                "taken for logits"
            )

    def about(self) -> About:
        """What it is; it is identified by its file."""
        ask = getattr(self.inner, "about", None)
        return About(
            kind=f"{self.kind} {self.path.name}, built in {self.backend}",
            parameters=sum(weight.size for weight in self.read.network.weights.values()),
            device=ask().device if callable(ask) else self.how.device or "cpu",
            identity=self.read.identity,
        )

    def around(self, inner: Model) -> Model:
        """Another model, which is not the one of the file."""
        return inner


class NetworkCopies:
    """See ``protocol.Copies``: other models of a network that is known, layer by layer.

    Args:
        imported: The model.
    """

    def __init__(self, imported: Imported) -> None:
        self._backend, self._how = imported.backend, imported.how
        self._network = imported.read.network

    def stages(self) -> int:
        """See ``protocol.Copies``: one for each layer with weights."""
        return sum(name.endswith(".weight") for name in self._network.weights)

    def float64(self) -> Model:
        """See ``protocol.Copies``."""
        return self._built(self._network.weights, dtype="float64")

    def oracle(self) -> Model:
        """The network in float64, in NumPy."""
        how = Wrapping(self._how.bounds)
        return registry.builder("numpy").build(self._network, how, dtype="float64")

    def randomised(self, stages: int, seed: int) -> Model:
        """See ``protocol.Copies``."""
        random = initial_weights(self._network.architecture, [seed, 1])
        *_, weights = [
            made for made, _ in zip(
                cascade(self._network.weights, random), range(min(stages, self.stages())),
                strict=False,
            )
        ]  # fmt: skip
        return self._built(weights)

    def learner(self, seed: int) -> Trainer:
        """See ``protocol.Copies``."""
        architecture = self._network.architecture
        network = Network(architecture, initial_weights(architecture, [seed, 2]))
        made = registry.builder(self._backend)
        return made.trainer(network, self._how, Optimizer(), seed=seed)

    def _built(self, weights: Weights, dtype: str = "float32") -> DifferentiableModel:
        network = Network(self._network.architecture, weights)
        return registry.builder(self._backend).build(network, self._how, dtype=dtype)


def from_onnx(path: Path, how: Wrapping, outputs: Outputs, backend: str | None) -> Model:
    """The network of an ONNX file, built in a framework; or a black box, which says why it is one.

    Args:
        path: The file.
        how: How it is to be called.
        outputs: What it gives, as in ``wrap``: of ``logits`` a softmax at the end is a part.
        backend: In which it is built, or ``onnx``; by default one that is installed.

    Raises:
        BackendError: It can be neither, or there is no such backend.
        GraphError: It is no network of the harness, and a backend is named.
    """
    if backend == RUNTIME:
        return registry.backend(RUNTIME).load(path, how)
    known = registry.builders()
    if backend is not None and backend not in known:
        raise BackendError(f"backend: {unknown(backend, 'backend', [*known, RUNTIME])}")
    try:
        read = read_network(path, how.output, ends=outputs != "logits")
        model = _built(path, read, how, backend or default_backend())
        _require_alike(model)
    except GraphError as error:
        if backend is not None:
            raise GraphError(
                f"{path}: {error}; leave the backend out, or say {RUNTIME}, for a black box"
            ) from error
        return _black_box(path, how, str(error))
    return model


def read_file_of_weights(
    path: Path,
    architecture: Architecture | None = None,
    mapping: Mapping[str, str] | None = None,
    sha256: str | None = None,
) -> Read:
    """A network with the weights of a safetensors file.

    Args:
        path: The file.
        architecture: What it is made of; by default what the file says.
        mapping: Which layer of the file is which of the network; see ``networks.naming``.
        sha256: Of the file, if it is known.

    Raises:
        WeightsError: The file is none, or does not fit.
    """
    file = read_weights(path, sha256)
    network = network_of_file(file, architecture, mapping)
    said = {"file": file.sha256, "layers": described(network.architecture)} | dict(mapping or {})
    return Read(network, "", fingerprint(said))


def built_of_weights(path: Path, read: Read, how: Wrapping, backend: str | None) -> Imported:
    """That network, built in a framework; by default one that is installed.

    Raises:
        BackendError: There is no such backend.
    """
    backend = backend or default_backend()
    if backend not in (known := registry.builders()):
        raise BackendError(f"backend: {unknown(backend, 'backend', known)}")
    inner = registry.builder(backend).build(read.network, how)
    return Imported(inner, read, backend, how, path, "weights of")


def _built(path: Path, read: Read, how: Wrapping, backend: str) -> Imported:
    inner = registry.builder(backend).build(read.network, how)
    return Imported(inner, read, backend, how, path)


def _black_box(path: Path, how: Wrapping, why: str) -> Model:
    """The file in ONNX Runtime."""
    if reason := registry.missing(RUNTIME):
        raise BackendError(f"{path}: {why}; as a black box it could be run, but {reason}")
    return BlackBox(registry.backend(RUNTIME).load(path, how), f"{path.name}: {why}")


def _require_alike(model: Imported) -> None:
    """Hold the network against ONNX Runtime on random images, where that is installed.

    Raises:
        GraphError: They differ by more than rounding.
    """
    if reason := registry.missing(RUNTIME):
        model.notes.append(f"{model.path.name}: not held against ONNX Runtime ({reason})")
        return
    path, read = model.path, model.read
    low, high = model.bounds
    drawn = np.random.default_rng(0).random((COMPARED, *read.network.architecture.input_shape))
    images = (low + (high - low) * drawn).astype(np.float32)
    wrapping = Wrapping(model.bounds, model.how.output)
    try:
        theirs = logits_of(registry.backend(RUNTIME).load(path, wrapping), images)
    except (BackendError, MeasurementError) as error:  # such as a version that it does not know
        model.notes.append(f"{path.name}: not held against ONNX Runtime ({error})")
        return
    ours = read.outputs(logits_of(model, images))
    if read.end == "Sigmoid":  # of one output
        ours, theirs = ours[:, 1:], theirs[:, 1:]
    if ours.shape != theirs.shape:
        raise GraphError(f"read as a network it gives {ours.shape}, not {theirs.shape}")
    largest = float(np.abs(theirs).max())
    off = float(np.abs(ours - theirs).max())
    if not off <= TOLERANCE * largest:
        raise GraphError(
            f"read as a network its outputs differ from those of ONNX Runtime by {off:.2g}, of "
            f"{largest:.2g} at most"
        )


def default_backend() -> str:
    """The first of the harness's own frameworks that is installed; NumPy where there is none.

    PyTorch is passed over where TensorFlow is in memory before it: the two tolerate one order only.
    """
    late = "tensorflow" in sys.modules and "torch" not in sys.modules
    names = [name for name, entry in registry.OWN.items() if entry.builds and entry.needs]
    there = [name for name in names if not registry.missing(name)]
    chosen = [name for name in there if not (late and name == "torch")] or there
    return chosen[0] if chosen else "numpy"


def imported_in(model: Model) -> Imported | None:
    """The network from a file that a model is, behind all that is in front of it."""
    while isinstance(model, Around) and not isinstance(model, Imported):
        model = model.inner
    return model if isinstance(model, Imported) else None


def notes_of(model: Model) -> tuple[str, ...]:
    """What a reader of a model's numbers should know of how its file is read."""
    if (imported := imported_in(model)) is not None:
        return tuple(map(one_line, imported.notes))
    while isinstance(model, Around):
        if isinstance(model, BlackBox):
            return (one_line(f"a black box, without gradients: {model.why_no_gradient}"),)
        model = model.inner
    return ()


def network_of(model: Model) -> Network | None:
    """Layers and weights of a model from pixels to logits, where they are known.

    A normalisation in front of it is its first layer. Behind a transform of the images, or where
    random numbers are drawn, they are not all of the model.
    """
    if is_transformed(model) or is_randomised(model):
        return None
    imported = imported_in(model)
    network = None if imported is None else imported.read.network
    normalised: list[Preprocessed] = []
    while isinstance(model, Around):
        normalised += [model] if isinstance(model, Preprocessed) else []
        model = model.inner
    for one in reversed(normalised):
        network = None if network is None else _behind(one, network)
    return network


def _behind(normalised: Preprocessed, network: Network) -> Network | None:
    """The network of images that are normalised first; None where that is no layer."""
    architecture = network.architecture
    try:
        made = Architecture(
            architecture.input_shape, (Scale(), *architecture.layers), architecture.classes,
            architecture.channel_axis,
        )  # fmt: skip
    except ArchitectureError:
        return None
    channels = math.prod(made.weight_shapes()["layers.0.weight"])
    if len(normalised.mean) > 1 and not _along_channels(normalised, architecture, channels):
        return None
    weights: dict[str, FloatArray] = {
        "layers.0.weight": np.broadcast_to(1 / normalised.std, channels).astype(np.float32),
        "layers.0.bias": np.broadcast_to(-normalised.mean / normalised.std, channels).astype(
            np.float32
        ),
    }
    for name, value in network.weights.items():
        _, index, kind = name.split(".")
        weights[f"layers.{int(index) + 1}.{kind}"] = value
    return Network(made, weights)


def _along_channels(by: Preprocessed, architecture: Architecture, channels: int) -> bool:
    """Whether images are normalised along the axis that holds the channels of their network."""
    try:
        axis = by.axis(architecture.input_shape)
    except MeasurementError:
        return False
    return len(by.mean) == channels and axis == (architecture.channel_axis or 0)
