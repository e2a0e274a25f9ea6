"""Other libraries' FGSM and PGD behind one signature.

``tests/peers`` holds the harness's counts against theirs, ``test_speed.py`` its times. Each is used
as its documentation says, on the same network, and a framework's tensors stay its tensors.
"""

from __future__ import annotations

import importlib.util
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from harness.protocol import Array, FloatArray, IntArray

REACH = 2.5
"""Summed length of the steps of PGD, in epsilons: the harness's default."""


class Peer(ABC):
    """A library, ready to attack one network that returns logits of images in [0, 1].

    Args:
        net: A ``torch.nn.Module``, a ``keras.Model``, or a function of JAX.
        shape: Shape of one image.
        classes: Number of logits.
    """

    package: ClassVar[str]

    def __init__(self, net: Any, shape: tuple[int, ...], classes: int) -> None:
        self.net = net

    @abstractmethod
    def fgsm(self, x: Array, y: Array, epsilon: float) -> Array:
        """Images (n, *shape) after one step."""

    @abstractmethod
    def pgd(self, x: Array, y: Array, epsilon: float, steps: int) -> Array:
        """Images (n, *shape) after so many steps of 2.5 ε / steps from a random start."""

    @abstractmethod
    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """What the library wants its images and labels to be."""

    @abstractmethod
    def labels(self, x: Array) -> IntArray:
        """Predicted labels, (n,)."""

    def counts(
        self,
        x: FloatArray,
        y: IntArray,
        epsilons: Sequence[float],
        steps: int = 0,
        batch: int = 1000,
    ) -> list[int]:
        """How many images stay correct at each epsilon, under PGD of so many steps, or FGSM."""
        correct = [0 for _ in epsilons]
        for start in range(0, len(x), batch):
            images = self.asarray(x[start : start + batch])
            true = y[start : start + batch]
            labels = self.asarray(true)
            for place, epsilon in enumerate(epsilons):
                if steps:
                    found = self.pgd(images, labels, epsilon, steps)
                else:
                    found = self.fgsm(images, labels, epsilon)
                correct[place] += int(np.sum(self.labels(found) == true))
        return correct


class _Torch(Peer):
    """What the libraries on PyTorch share."""

    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """A tensor; floats in the network's dtype."""
        import torch

        dtype = torch.int64 if values.dtype.kind in "iu" else next(self.net.parameters()).dtype
        return torch.tensor(values, dtype=dtype)

    def labels(self, x: Array) -> IntArray:
        """See ``Peer``."""
        import torch

        with torch.no_grad():
            found: IntArray = self.net(x).argmax(1).numpy()
        return found


class _Keras(Peer):
    """What the libraries on TensorFlow share; predictions are compiled, as ours are."""

    def __init__(self, net: Any, shape: tuple[int, ...], classes: int) -> None:
        import tensorflow as tf

        super().__init__(net, shape, classes)
        self._logits = tf.function(lambda x: net(x, training=False))

    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """A tensor."""
        import tensorflow as tf

        return tf.convert_to_tensor(values)

    def labels(self, x: Array) -> IntArray:
        """See ``Peer``."""
        found: IntArray = np.asarray(self._logits(x)).argmax(1)
        return found


class _Foolbox(Peer):
    """Foolbox, whose attacks are the same code over each framework."""

    package = "foolbox"
    wrapper: ClassVar[str]

    def __init__(self, net: Any, shape: tuple[int, ...], classes: int) -> None:
        import foolbox

        super().__init__(net, shape, classes)
        self.attacked = getattr(foolbox, self.wrapper)(net, bounds=(0, 1))

    def fgsm(self, x: Array, y: Array, epsilon: float) -> Array:
        """See ``Peer``."""
        import foolbox

        return foolbox.attacks.LinfFastGradientAttack().run(self.attacked, x, y, epsilon=epsilon)

    def pgd(self, x: Array, y: Array, epsilon: float, steps: int) -> Array:
        """See ``Peer``."""
        import foolbox

        attack = foolbox.attacks.LinfPGD(rel_stepsize=REACH / steps, steps=steps)
        return attack.run(self.attacked, x, y, epsilon=epsilon)


class FoolboxTorch(_Foolbox, _Torch):
    """Foolbox on PyTorch."""

    wrapper = "PyTorchModel"


class FoolboxKeras(_Foolbox, _Keras):
    """Foolbox on TensorFlow."""

    wrapper = "TensorFlowModel"


class FoolboxJax(_Foolbox):
    """Foolbox on JAX; the network is a function of images."""

    wrapper = "JAXModel"

    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """An array of JAX's."""
        import jax.numpy as jnp

        return jnp.asarray(values)

    def labels(self, x: Array) -> IntArray:
        """See ``Peer``."""
        found: IntArray = np.asarray(self.net(x)).argmax(1)
        return found


class Torchattacks(_Torch):
    """torchattacks."""

    package = "torchattacks"

    def fgsm(self, x: Array, y: Array, epsilon: float) -> Array:
        """See ``Peer``."""
        import torchattacks

        return torchattacks.FGSM(self.net, eps=epsilon)(x, y)

    def pgd(self, x: Array, y: Array, epsilon: float, steps: int) -> Array:
        """See ``Peer``."""
        import torchattacks

        size = REACH * epsilon / steps
        return torchattacks.PGD(self.net, eps=epsilon, alpha=size, steps=steps)(x, y)


class CleverHansTorch(_Torch):
    """CleverHans on PyTorch; it casts images to float32."""

    package = "cleverhans"

    def fgsm(self, x: Array, y: Array, epsilon: float) -> Array:
        """See ``Peer``."""
        from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method

        return fast_gradient_method(self.net, x, epsilon, np.inf, 0.0, 1.0, y=y)

    def pgd(self, x: Array, y: Array, epsilon: float, steps: int) -> Array:
        """See ``Peer``."""
        from cleverhans.torch.attacks import projected_gradient_descent as module

        return module.projected_gradient_descent(
            self.net, x, epsilon, REACH * epsilon / steps, steps, np.inf, 0.0, 1.0, y=y,
            sanity_checks=False,
        )  # fmt: skip


class CleverHansKeras(_Keras):
    """CleverHans on TensorFlow; it casts images to float32."""

    package = "cleverhans"

    def fgsm(self, x: Array, y: Array, epsilon: float) -> Array:
        """See ``Peer``."""
        from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method

        return fast_gradient_method(self.net, x, epsilon, np.inf, clip_min=0.0, clip_max=1.0, y=y)

    def pgd(self, x: Array, y: Array, epsilon: float, steps: int) -> Array:
        """See ``Peer``."""
        from cleverhans.tf2.attacks import projected_gradient_descent as module

        return module.projected_gradient_descent(
            self.net, x, epsilon, REACH * epsilon / steps, steps, np.inf,
            clip_min=0.0, clip_max=1.0, y=y, sanity_checks=False,
        )  # fmt: skip


class Tutorial(_Keras):
    """FGSM as TensorFlow's own tutorial shows it: a gradient tape for each batch and epsilon."""

    package = "tensorflow"

    def fgsm(self, x: Array, y: Array, epsilon: float) -> Array:
        """See ``Peer``."""
        import tensorflow as tf

        return tf.clip_by_value(x + epsilon * tf.sign(self._gradient(x, y)), 0, 1)

    def pgd(self, x: Array, y: Array, epsilon: float, steps: int) -> Array:
        """See ``Peer``; the same step, repeated and projected."""
        import tensorflow as tf

        moving = tf.clip_by_value(x + tf.random.uniform(x.shape, -epsilon, epsilon), 0, 1)
        for _ in range(steps):
            moving = moving + REACH * epsilon / steps * tf.sign(self._gradient(moving, y))
            moving = tf.clip_by_value(moving, x - epsilon, x + epsilon)
            moving = tf.clip_by_value(moving, 0, 1)
        return moving

    def _gradient(self, x: Array, y: Array) -> Array:
        import keras
        import tensorflow as tf

        loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = loss_of(y, self.net(x))
        return tape.gradient(loss, x)


class _Art(Peer):
    """The Adversarial Robustness Toolbox: NumPy in and out, in float32, batched by itself."""

    package = "art"
    classifier: Any

    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """See ``Peer``."""
        return values

    def labels(self, x: Array) -> IntArray:
        """See ``Peer``."""
        return np.asarray(self.classifier.predict(x, batch_size=len(x)).argmax(1))

    def fgsm(self, x: Array, y: Array, epsilon: float) -> Array:
        """See ``Peer``."""
        from art.attacks.evasion import FastGradientMethod

        attack = FastGradientMethod(self.classifier, eps=epsilon, batch_size=len(x))
        return attack.generate(x, y)

    def pgd(self, x: Array, y: Array, epsilon: float, steps: int) -> Array:
        """See ``Peer``."""
        from art.attacks.evasion import ProjectedGradientDescent

        attack = ProjectedGradientDescent(
            self.classifier, eps=epsilon, eps_step=REACH * epsilon / steps, max_iter=steps,
            num_random_init=1, batch_size=len(x), verbose=False,
        )  # fmt: skip
        return attack.generate(x, y)


class ArtTorch(_Art):
    """ART on PyTorch."""

    def __init__(self, net: Any, shape: tuple[int, ...], classes: int) -> None:
        from art.estimators.classification import PyTorchClassifier
        from torch import nn

        super().__init__(net, shape, classes)
        self.classifier = PyTorchClassifier(
            net, nn.CrossEntropyLoss(), shape, classes, clip_values=(0.0, 1.0), device_type="cpu"
        )


class ArtKeras(_Art):
    """ART on TensorFlow."""

    def __init__(self, net: Any, shape: tuple[int, ...], classes: int) -> None:
        import keras
        from art.estimators.classification import TensorFlowV2Classifier

        super().__init__(net, shape, classes)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.classifier = TensorFlowV2Classifier(
            net, classes, shape, loss_object=loss, clip_values=(0.0, 1.0)
        )


class Captum:
    """Captum's maps of a PyTorch network, for its tensors (Kokhlikyan et al. 2020)."""

    package: ClassVar[str] = "captum"

    def __init__(self, net: Any) -> None:
        self.net = net

    def gradient(self, x: Array, y: Array) -> Array:
        """The signed gradient of the class's logit."""
        from captum.attr import Saliency

        return Saliency(self.net).attribute(x.clone().requires_grad_(), target=y, abs=False)

    def gradient_times_input(self, x: Array, y: Array) -> Array:
        """Each pixel times that."""
        from captum.attr import InputXGradient

        return InputXGradient(self.net).attribute(x.clone().requires_grad_(), target=y)

    def integrated_gradients(self, x: Array, y: Array, steps: int) -> Array:
        """From a black image, by Gauss-Legendre quadrature; a batch of images at a time."""
        from captum.attr import IntegratedGradients

        return IntegratedGradients(self.net).attribute(
            x, target=y, n_steps=steps, method="gausslegendre", internal_batch_size=len(x)
        )


PEERS: dict[str, dict[str, type[Peer]]] = {
    "torch": {
        "foolbox": FoolboxTorch,
        "torchattacks": Torchattacks,
        "cleverhans": CleverHansTorch,
        "art": ArtTorch,
    },
    "keras": {
        "foolbox": FoolboxKeras,
        "cleverhans": CleverHansKeras,
        "art": ArtKeras,
        "tutorial": Tutorial,
    },
    "jax": {"foolbox": FoolboxJax},
}


def installed(backend: str) -> dict[str, type[Peer]]:
    """The peers of a framework that can be imported here."""
    logging.getLogger("art").setLevel(logging.ERROR)
    found = PEERS[backend].items()
    return {name: peer for name, peer in found if importlib.util.find_spec(peer.package)}
