"""Look things up in a stored run, where any array may be absent or not fit the others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from harness.maths.channels import COLOURS
from harness.maths.pictures import channels_of
from harness.results import keys
from harness.results.run import Run
from harness.spec.measures import Cover

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
UNANSWERED = -1
"""The predicted label of an image to which a model gave no answer."""


class Pair(NamedTuple):
    """A model in a backend: what has accuracies of its own."""

    backend: str
    model: str

    @property
    def label(self) -> str:
        """The pair for people: ``torch · mlp``."""
        return " · ".join(part for part in self if part)


def pairs(run: Run) -> list[Pair]:
    """Every backend × model of the run, in the order of the records."""
    recorded = [Pair(record.backend, record.model) for record in run.records]
    trained = [Pair(model.backend, model.model) for model in run.models]
    return list(dict.fromkeys(recorded + trained))


def spec_value(run: Run, *path: str) -> Any:
    """A value from deep in the run's spec, or None where the spec does not go that far."""
    value: Any = run.spec
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def class_names(run: Run) -> list[str]:
    """The names of the classes; their numbers where the run does not name them."""
    if run.classes:
        return list(run.classes)
    labels = _integers(run, keys.LABELS)
    return [] if labels is None else [str(label) for label in range(int(labels.max()) + 1)]


def chance(run: Run) -> float | None:
    """Accuracy of guessing, if the number of classes is known."""
    names = class_names(run)
    return 1 / len(names) if names else None


def labels_of(run: Run) -> IntArray | None:
    """The true labels of the test images, if each is a known class."""
    return _known_classes(run, _integers(run, keys.LABELS))


def predictions_of(run: Run, pair: Pair, check: str) -> IntArray | None:
    """The predictions of a check, if there is one for each true label; -1 where none was given."""
    labels, found = labels_of(run), first_predictions(run, pair, check)
    return found if labels is not None and found is not None and found.size == labels.size else None


def first_predictions(run: Run, pair: Pair, check: str) -> IntArray | None:
    """The same where only the first images were measured: no more of them than true labels."""
    labels = labels_of(run)
    found = _known_classes(run, _integers(run, keys.of(*pair, keys.predictions(check))), UNANSWERED)
    return found if labels is not None and found is not None and found.size <= labels.size else None


def certified_of(run: Run, pair: Pair, certifier: str, epsilon: float) -> BoolArray | None:
    """Which of the first images are certified at an epsilon, if that is stored."""
    labels, found = (
        labels_of(run),
        run.arrays.get(keys.of(*pair, keys.certified(certifier, epsilon))),
    )
    if labels is None or found is None or found.dtype.kind != "b" or found.ndim != 1:
        return None
    return found if 0 < found.size <= labels.size else None


def named(names: Sequence[str], label: int) -> str | None:
    """The name of a predicted class; None where a model gave no answer."""
    return None if label == UNANSWERED else names[label]


def smallest_epsilons(run: Run, pair: Pair, method: str) -> FloatArray | None:
    """The smallest epsilon at which each image is misclassified, if stored; infinite for none."""
    found = array(run, pair, keys.smallest(method), (None,), finite=False)
    return None if found is None or np.isnan(found).any() or found.min() < 0 else found


@dataclass(frozen=True)
class Kept:
    """Which images were kept, (m,), as pictures, (m, ...), and what they are taken for, (m,)."""

    index: IntArray
    clean: FloatArray
    adversarial: FloatArray
    labels: IntArray


def extremes(run: Run, pair: Pair, method: str) -> Kept | None:
    """The most fragile and the most robust images, if they are stored and can be drawn."""
    index_key, labels_key, *images = (
        keys.of(*pair, keys.extremes(method, part))
        for part in ("index", "labels", "clean", "adversarial")
    )
    true = labels_of(run)
    index = _integers(run, index_key)
    labels = _known_classes(run, _integers(run, labels_key), UNANSWERED)
    if true is None or index is None or labels is None or labels.shape != index.shape:
        return None
    clean, adversarial = (pictures_in(run, key, index.size) for key in images)
    if clean is None or adversarial is None or clean.shape != adversarial.shape:
        return None
    if index.min() < 0 or index.max() >= true.size:
        return None
    return Kept(index, clean, adversarial, labels)


def example_index(run: Run, pair: Pair) -> IntArray | None:
    """Which test images a pair keeps as examples, if all of them are test images."""
    labels = labels_of(run)
    index = _integers(run, keys.of(*pair, keys.INDEX))
    if labels is None or index is None or index.min() < 0 or index.max() >= labels.size:
        return None
    return index


def example_images(run: Run, pair: Pair, name: str) -> FloatArray | None:
    """Example images under a name, if they can be drawn and are one per index."""
    return example_pictures(run, pair, keys.example(name))


def example_pictures(run: Run, pair: Pair, key: str) -> FloatArray | None:
    """Pictures of the examples by their key, likewise; see ``pictures_in``."""
    index = example_index(run, pair)
    return None if index is None else pictures_in(run, keys.of(*pair, key), index.size)


def example_maps(run: Run, pair: Pair, key: str) -> FloatArray | None:
    """Maps of the examples, (m, height, width), summed in absolute value over the channels."""
    index = example_index(run, pair)
    stack = run.arrays.get(keys.of(*pair, key))
    return None if index is None else _flat(run, stack, index.size)


def example_confidences(run: Run, pair: Pair, name: str) -> FloatArray | None:
    """The confidence in the prediction for each example, if there is one per index."""
    index = example_index(run, pair)
    if index is None:
        return None
    return array(run, pair, keys.example(name, "confidence"), index.shape, finite=False)


def example_labels(run: Run, pair: Pair, name: str) -> IntArray | None:
    """The predicted labels of the examples under a name, if there is one per index."""
    index = example_index(run, pair)
    key = keys.of(*pair, keys.example(name, "labels"))
    found = _known_classes(run, _integers(run, key), UNANSWERED)
    return found if index is not None and found is not None and found.size == index.size else None


def truths_of(run: Run, pair: Pair) -> list[str]:
    """The true class of each example, by name; none if they are not known."""
    index, labels = example_index(run, pair), labels_of(run)
    if index is None or labels is None:
        return []
    names = class_names(run)
    return [names[label] for label in labels[index]]


def saliency_methods(run: Run, pair: Pair) -> list[str]:
    """The methods of which a pair has maps or curves, in the order in which they were stored."""
    begin = keys.of(*pair, "")
    names = [key.removeprefix(begin) for key in run.arrays if key.startswith(begin)]
    maps = [name.split("/")[2] for name in names if re.fullmatch(keys.maps(keys.ONE), name)]
    curves = [
        name.split("/")[1] for name in names if re.fullmatch(keys.curve(keys.ONE, ".+"), name)
    ]
    plain = [occluding(run)] if keys.MAPS in names else []
    return [name for name in dict.fromkeys(maps + curves + plain) if name != "random"]


def saliency_maps(run: Run, pair: Pair, method: str) -> FloatArray | None:
    """A method's maps of the examples, (m, height, width), if they are stored."""
    found = example_maps(run, pair, keys.maps(method))
    # Where no method was asked for, those that the occluded pixels were chosen by.
    plain = found is None and method == occluding(run)
    return example_maps(run, pair, keys.MAPS) if plain else found


def occluding(run: Run) -> str:
    """The method by whose maps the occluded pixels were chosen."""
    said = spec_value(run, "saliency", "occlusion")
    return said if isinstance(said, str) else "gradient"  # older runs knew no other


def cover(run: Run) -> Cover:
    """What covered pixels became."""
    return "blurred" if spec_value(run, "saliency", "cover") == "blurred" else "black"  # as above


def cascade_maps(run: Run, pair: Pair, method: str) -> list[FloatArray] | None:
    """Per model of the cascade the maps (few, height, width) of the first examples, if stored."""
    found = run.arrays.get(keys.of(*pair, keys.cascade_maps(method)))
    if found is None or found.ndim < 4 or not found.size or not truths_of(run, pair):
        return None
    layers = [flat for maps in found if (flat := _flat(run, maps, len(maps))) is not None]
    return layers or None


def array(
    run: Run, pair: Pair, name: str, shape: tuple[int | None, ...], *, finite: bool = True
) -> FloatArray | None:
    """Numbers of a pair by their name, if they have that shape (None: any length but zero)."""
    found = run.arrays.get(keys.of(*pair, name))
    if found is None or found.dtype.kind != "f" or not found.size or found.ndim != len(shape):
        return None
    fits = all(want in (None, have) for want, have in zip(shape, found.shape, strict=True))
    if not fits or (finite and not np.isfinite(found).all()):
        return None
    return found.astype(np.float64)


def pictures_in(run: Run, key: str, count: int) -> FloatArray | None:
    """So many images by their key, if they are that many and can be drawn.

    Returns:
        Grey ones, (count, height, width), or colours, (count, height, width, 3); a fourth channel
        is not drawn.
    """
    found = _channels_last(run, run.arrays.get(key), count)
    if found is None or found.shape[3] not in COLOURS:
        return None
    return found[..., 0] if found.shape[3] == 1 else found[..., :3]


def undrawn(run: Run, key: str) -> str:
    """Why pictures under a key, or those that should be there, are not on the page: a sentence."""
    stack = run.arrays.get(key)
    if stack is None:
        return "Pictures are not stored: a run keeps no more than have room in it."
    return (
        f"Images of shape {stack.shape[1:]} cannot be drawn: a picture has a height, a width, and "
        "1, 3 or 4 channels."
    )


def together(found: Iterable[tuple[Pair, str]]) -> list[tuple[str, list[Pair]]]:
    """Sentences, each with the pairs of which it is true; those of empty ones are left out."""
    said: dict[str, list[Pair]] = {}
    for pair, sentence in found:
        if sentence:
            said.setdefault(sentence, []).append(pair)
    return list(said.items())


def _flat(run: Run, stack: npt.NDArray[Any] | None, count: int) -> FloatArray | None:
    """So many maps as (count, height, width): of several channels the sum of absolute values."""
    found = _channels_last(run, stack, count)
    if found is None:
        return None
    return found[..., 0] if found.shape[3] == 1 else np.abs(found).sum(axis=3)


def _channels_last(run: Run, stack: npt.NDArray[Any] | None, count: int) -> FloatArray | None:
    """So many images as (count, height, width, channels), if they are pictures."""
    if stack is None or stack.shape[:1] != (count,) or stack.dtype.kind not in "fiub":
        return None
    shape, values = stack.shape[1:], np.nan_to_num(stack.astype(np.float64))
    said = None if run.data is None else run.data.channel_axis
    axis = channels_of(shape, said)
    if axis is not None:
        return np.moveaxis(values, axis + 1, 3)
    sides = [side for side in shape if side != 1]
    return values.reshape(count, *sides, 1) if len(sides) == 2 else None


def _integers(run: Run, key: str) -> IntArray | None:
    """A non-empty vector of integers by its key."""
    found = run.arrays.get(key)
    if found is None or found.ndim != 1 or not found.size or found.dtype.kind not in "iu":
        return None
    return found.astype(np.int64)


def _known_classes(run: Run, values: IntArray | None, lowest: int = 0) -> IntArray | None:
    """The values, if all are indices of classes; -1 can be allowed."""
    known = values is not None and values.min() >= lowest and values.max() < len(class_names(run))
    return values if known else None
