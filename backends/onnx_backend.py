"""Networks in ONNX files, by ONNX Runtime: black boxes, because it gives no gradients."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from backends.callable_backend import CallableModel, is_full
from harness.errors import BackendError, BatchTooLarge, MeasurementError, gist, one_line
from harness.protocol import About, Array, Calls, FloatArray, Model, Wrapping

DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
"""What a network may take its images in."""
SCORES = ("tensor(float)", "tensor(float16)", "tensor(double)", "tensor(bfloat16)")
"""What an output must be to hold logits."""
PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
"""What computes on a device; the first that is there is taken where none is asked for."""
BYTES = (0.0, 255.0)
"""The bounds of images that are whole numbers."""
THREADS = "OMP_NUM_THREADS"
FULL = ("failed to allocate", "bad allocation", "bad_alloc", "allocation failed")
CHUNK = 2**22


class OnnxModel(CallableModel):
    """A session as a black box; one with a fixed batch size is called with that many images.

    Images are float32, or float64 where it takes these. Where it takes bytes, pixels in [0, 255]
    are rounded to whole numbers.

    Args:
        session: The session.
        how: How it is to be called.
        file: Where it is from; None if that is not known.
    """

    noun = "the network"

    def __init__(
        self, session: onnxruntime.InferenceSession, how: Wrapping, file: Path | None = None
    ) -> None:
        super().__init__(self._run, Calls(how.bounds))
        self.session, self.file = session, file
        self.input, self.entry = _input(session)
        self.output = _output(session, how.output)
        self.dtype = np.float64 if self.entry == np.float64 else np.float32
        if self.entry == np.uint8 and tuple(how.bounds) != BYTES:
            raise BackendError(
                f"the network takes bytes, but bounds are {list(how.bounds)}; say "
                "bounds=(0, 255), and give images of these"
            )
        self.fixed = self.input.shape[0] if isinstance(self.input.shape[0], int) else None

    @property
    def kind(self) -> str:
        """What it is, as ``about`` says it."""
        if self.file is None:
            return "onnxruntime.InferenceSession"
        return f"ONNX file {self.file.name}"

    def about(self) -> About:
        """What it is; it is identified by its file."""
        device = "cuda" if PROVIDERS["cuda"] in self.session.get_providers() else "cpu"
        return About(self.kind, None, device, "" if self.file is None else _sha256(self.file))

    def ask(self, images: FloatArray) -> Array:
        """The network's output for one batch, (n, ...).

        Raises:
            MeasurementError: It takes images of another shape, or fails.
            BatchTooLarge: Memory is full.
        """
        self._require_fit(images.shape[1:])
        self.queries += len(images)
        try:
            if self.fixed is None:
                return self._run(images)
            return np.concatenate(
                [
                    self._padded(images[start : start + self.fixed], self.fixed)
                    for start in range(0, len(images), self.fixed)
                ]
            )
        except MeasurementError:
            raise
        except Exception as error:
            if is_full(error) or any(word in str(error).lower() for word in FULL):
                raise BatchTooLarge(f"memory is full at {len(images)} images") from error
            raise MeasurementError(one_line(f"ONNX Runtime fails: {gist(error)}")) from error

    def _run(self, images: FloatArray) -> Array:
        given = np.rint(images) if self.entry == np.uint8 else images
        values = np.ascontiguousarray(given, dtype=self.entry)
        return self.session.run([self.output], {self.input.name: values})[0]

    def _padded(self, images: FloatArray, count: int) -> Array:
        """What it says of so many images or fewer, which are repeated then."""
        found = np.asarray(self._run(images[np.arange(count) % len(images)]))
        if found.shape[:1] != (count,):
            raise MeasurementError(
                f"the network's output {self.output} has the shape {found.shape} for {count} images"
            )
        return found[: len(images)]

    def _require_fit(self, shape: Sequence[int]) -> None:
        """Refuse images of another shape than the network's.

        Raises:
            MeasurementError: They are; the message has both shapes.
        """
        wanted = self.input.shape[1:]
        fits = len(wanted) == len(shape) and all(
            not isinstance(want, int) or want == have
            for want, have in zip(wanted, shape, strict=True)
        )
        if not fits:
            sides = ", ".join(str(side) if isinstance(side, int) else "any" for side in wanted)
            raise MeasurementError(
                f"the network takes images of the shape ({sides}), but they have "
                f"({', '.join(map(str, shape))})"
            )


class OnnxBackend:
    """See ``protocol.Backend``."""

    name = "onnx"
    suffixes = (".onnx",)

    def versions(self) -> dict[str, str]:
        """See ``protocol.Backend``."""
        return {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__}

    def knows(self, net: Any) -> bool:
        """Sessions of ONNX Runtime."""
        return isinstance(net, onnxruntime.InferenceSession)

    def wrap(self, net: Any, how: Wrapping) -> Model:
        """A session as a ``Model``, on the device that it has.

        Raises:
            BackendError: It is no session, takes other than one array of images, has no such
                output, or is on another device.
        """
        if not self.knows(net):
            raise BackendError(f"{type(net).__name__}: not an onnxruntime.InferenceSession")
        if how.device is not None:
            there, wanted = net.get_providers(), _provider(how.device)
            if wanted not in there:
                raise BackendError(
                    f"device: the session does not compute on {how.device}; make it with "
                    f"providers=[{wanted!r}], or leave device out"
                )
        path = getattr(net, "_model_path", None)
        file = Path(path) if isinstance(path, str) and Path(path).is_file() else None
        return OnnxModel(net, how, file)

    def load(self, path: Path, how: Wrapping) -> Model:
        """The network of an ``.onnx`` file.

        Raises:
            BackendError: There is no such file, it holds no network, or see ``wrap``.
        """
        if not path.is_file():
            raise BackendError(f"{path}: no such file")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what is wrong, the exception says
        if (threads := os.environ.get(THREADS, "")).isdecimal() and int(threads):
            options.intra_op_num_threads = int(threads)
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=_providers(how.device)
            )
        except BackendError:
            raise
        except Exception as error:
            raise BackendError(
                one_line(f"{path}: not a network that ONNX Runtime can load ({gist(error)})")
            ) from error
        if how.device is not None and _provider(how.device) not in session.get_providers():
            raise BackendError(
                f"device: {how.device} cannot be used by ONNX Runtime here; it fell back to another"
            )
        try:
            return OnnxModel(session, how, path)
        except BackendError as error:
            raise BackendError(f"{path}: {error}") from error


def _providers(device: str | None) -> list[Any]:
    """What computes on a device, with its number."""
    if device is None:
        there = onnxruntime.get_available_providers()
        return [provider for provider in PROVIDERS.values() if provider in there]
    provider, number = _provider(device), device.partition(":")[2]
    return [(provider, {"device_id": int(number)})] if number else [provider]


def _provider(device: str) -> str:
    """What computes on a device.

    Raises:
        BackendError: Nothing does.
    """
    name, colon, number = device.partition(":")
    there = onnxruntime.get_available_providers()
    here = [kind for kind, provider in PROVIDERS.items() if provider in there]
    if name not in here or (colon and not (name == "cuda" and number.isdecimal())):
        raise BackendError(
            one_line(f"device: {device} is not here; there is {' and '.join(here) or 'none'}")
        )
    return PROVIDERS[name]


def _input(session: onnxruntime.InferenceSession) -> tuple[Any, Any]:
    """The network's only input, and its dtype."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(one.name for one in inputs) or "none"
        raise BackendError(
            one_line(
                f"the network has {len(inputs)} inputs ({names}), not images alone; wrap a "
                "function of images that runs the session"
            )
        )
    (found,) = inputs
    if found.type not in DTYPES:
        raise BackendError(
            one_line(f"the network's input {found.name} is {found.type}, not images of floats")
        )
    if not found.shape:
        raise BackendError(one_line(f"the network's input {found.name} has no batch of images"))
    return found, DTYPES[found.type]


def _output(session: onnxruntime.InferenceSession, wanted: str | None) -> str:
    """The name of the output that holds the logits."""
    outputs = session.get_outputs()
    names = ", ".join(f"{one.name} {one.type}" for one in outputs)
    if wanted is not None and wanted not in [one.name for one in outputs]:
        raise BackendError(
            one_line(f"the network has no output {wanted!r}; its outputs are {names}")
        )
    of_floats = [one.name for one in outputs if one.type in SCORES]
    asked = "logits" if wanted is None and "logits" in of_floats else wanted
    if not of_floats or (asked is not None and asked not in of_floats):
        raise BackendError(
            one_line(
                f"the network gives no array of scores: {names}; export it so that it does "
                "(scikit-learn: options={'zipmap': False})"
            )
        )
    return asked or of_floats[0]


def _sha256(path: Path) -> str:
    """Of a file, and of those beside it that it says hold its weights; empty if one is gone."""
    try:
        raw = path.read_bytes()
        digest = hashlib.sha256(raw)
        for other in sorted(path.parent.iterdir()) if b"location" in raw else ():
            if other != path and other.is_file() and other.name.encode() in raw:
                with other.open("rb") as stream:
                    while chunk := stream.read(CHUNK):
                        digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()
