"""The live page's server, played by Playwright: linear models, whose answers are known.

Nothing listens: the browser's requests are answered from here, or kept until a test lets them go.
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass, field
from importlib.resources import files
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from PIL import Image

ORIGIN = "http://live.test"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
TOP = 0.15


def received(image, channel_axis):
    """An image, of numbers or as PNG, in the layout of its model."""
    if not isinstance(image, str):
        return np.array(image, float)
    with Image.open(io.BytesIO(base64.b64decode(image.partition(",")[2]))) as picture:
        return np.moveaxis(np.asarray(picture.convert("RGB")) / 255, 2, channel_axis)


def digits(count=None):
    """scikit-learn's digits in [0, 1], and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images / 16)[:count], data.target[:count]


@dataclass
class Linear:
    """Logits ``weight @ pixels + bias`` of images of a shape.

    FGSM, the gradient, and the smallest epsilon of FGSM between two classes are exact.
    """

    weight: np.ndarray
    bias: np.ndarray
    shape: tuple[int, ...]
    channel_axis: int | None = None
    adversarial: bool = False

    @classmethod
    def fitted(cls, x, y, ridge, sharpness=12.0, **kind):
        """The least squares of the classes, by an L2 penalty; the larger it is, the more robust."""
        ground = x.reshape(len(x), -1)
        features = np.hstack([ground, np.ones((len(x), 1))])
        wanted = np.eye(y.max() + 1)[y]
        square = features.T @ features + ridge * np.eye(features.shape[1])
        found = sharpness * np.linalg.solve(square, features.T @ wanted)
        return cls(found[:-1].T, found[-1], x.shape[1:], **kind)

    def logits(self, pixels):
        return self.weight @ pixels + self.bias

    def prediction(self, pixels):
        logits = self.logits(pixels)
        odds = np.exp(logits - logits.max())
        label = int(logits.argmax())
        return {"label": label, "class": str(label), "logits": logits.tolist(),
                "probabilities": (odds / odds.sum()).tolist()}  # fmt: skip

    def gradient(self, pixels, label):
        """Of the cross-entropy loss."""
        odds = np.array(self.prediction(pixels)["probabilities"])
        odds[label] -= 1
        return self.weight.T @ odds

    def attacked(self, pixels, label, epsilon):
        return np.clip(pixels + epsilon * np.sign(self.gradient(pixels, label)), 0, 1)

    def attack(self, pixels, label, epsilon):
        clean = self.prediction(pixels)
        label = clean["label"] if label is None else label
        moved = self.attacked(pixels, label, epsilon)
        found = self.prediction(moved)
        return {
            "label": label, "clean": clean, "adversarial": found,
            "misclassified": found["label"] != label,
            "image": moved.reshape(self.shape).tolist(),
            "perturbation": (moved - pixels).reshape(self.shape).tolist(),
            "distance": float(np.abs(moved - pixels).max()),
        }  # fmt: skip

    def explain(self, pixels, label, top):
        label = self.prediction(pixels)["label"] if label is None else label
        found = (self.weight[label] * (1 + pixels)).reshape(self.shape)
        scores = np.abs(found)
        if self.channel_axis is not None:
            scores = scores.sum(axis=self.channel_axis)
        least = np.sort(scores.ravel())[-round(top * scores.size)]
        return {"label": label, "map": found.tolist(), "scores": scores.tolist(),
                "mask": (scores >= least).tolist()}  # fmt: skip

    def smallest(self, pixels, label, limit):
        label = self.prediction(pixels)["label"] if label is None else label
        tried = np.arange(0, limit + 1e-9, 0.001)
        wrong = (
            epsilon for epsilon in tried
            if self.logits(self.attacked(pixels, label, epsilon)).argmax() != label
        )  # fmt: skip
        found = next(wrong, None)
        return {"label": label, "epsilon": found if found is None else float(found), "limit": limit}


@dataclass
class Stub:
    """What the page asks, and who answers.

    Attributes:
        models: By name.
        images: Test images of all of them.
        labels: Of these.
        keep: Says whether a request, (path, body), is kept: its answer waits in ``kept``.
        broken: Says what is answered instead, (status, headers, body), or None.
        asked: (path, body) of each request of the API.
        counts: How many test images were asked for.
        kept: Routes and the answers that they will get.
    """

    models: dict[str, Linear]
    images: np.ndarray
    labels: np.ndarray
    info: dict = field(default_factory=dict)
    keep: object = None
    broken: object = None
    asked: list = field(default_factory=list)
    counts: list = field(default_factory=list)
    kept: list = field(default_factory=list)

    def install(self, page):
        page.route("**/*", self.handle)
        return page

    def handle(self, route):
        request = route.request
        address = urlsplit(request.url)
        if f"{address.scheme}://{address.netloc}" != ORIGIN:
            return route.abort()
        if not address.path.startswith("/api/v1/"):
            return self.file(route, address.path)
        path = unquote(address.path.removeprefix("/api/v1/"))
        body = json.loads(request.post_data) if request.post_data else {}
        self.asked.append((path, body))
        other = self.broken(path, body) if self.broken else None
        if other == "gone":
            return route.abort("connectionrefused")
        if other:
            status, headers, said = other
            return route.fulfill(status=status, headers=headers, json=said)
        answer = self.answer(path, body, parse_qs(address.query))
        if self.keep and self.keep(path, body):
            self.kept.append((route, answer))
            return None
        return route.fulfill(json=answer)

    @staticmethod
    def file(route, path):
        name = "index.html" if path == "/" else path.removeprefix("/static/")
        found = files("harness.serve").joinpath("static", name)
        suffix = name[name.rfind(".") :]
        return route.fulfill(
            body=found.read_bytes(),
            headers={"Content-Type": TYPES[suffix], "Content-Security-Policy": POLICY},
        )

    def answer(self, path, body, query):
        if path == "models":
            return {"models": [self.about(name) for name in self.models]}
        if path == "examples":
            self.counts.append(int(query["count"][0]))
            return {"examples": [self.example(at) for at in range(len(self.images))]}
        _, name, what = path.split("/")
        model = self.models[name]
        pixels = received(body["images"][0], model.channel_axis).ravel()
        label = (body.get("labels") or [None])[0]
        if what == "predict":
            return {"predictions": [model.prediction(pixels)]}
        if what == "attack":
            return {"results": [model.attack(pixels, label, body["epsilon"])]}
        if what == "explain":
            return {"maps": [model.explain(pixels, label, body["top"])]}
        return {"results": [model.smallest(pixels, label, body["limit"])]}

    def about(self, name):
        model = self.models[name]
        classes = [str(at) for at in range(len(model.bias))]
        return {
            "name": name, "backend": "numpy", "data": None, "weights": None,
            "input": {"shape": list(model.shape), "channel_axis": model.channel_axis,
                      "bounds": [0.0, 1.0]},
            "classes": classes, "methods": ["gradient", "smoothgrad"], "top": TOP,
            "attacks": [
                {"name": "noise", "norm": "linf", "epsilon_max": 1.0, "steps": None,
                 "needs_gradient": False},
                {"name": "fgsm", "norm": "linf", "epsilon_max": 1.0, "steps": None,
                 "needs_gradient": True},
                {"name": "pgd", "norm": "linf", "epsilon_max": 1.0, "steps": 40,
                 "needs_gradient": True},
                {"name": "pgd-l2", "norm": "l2", "epsilon_max": 8.0, "steps": 40,
                 "needs_gradient": True},
            ],
            "epsilon_unit": None, "parameters": model.weight.size + model.bias.size,
            "recipe": "pgd-at" if model.adversarial else None, "adversarial": model.adversarial,
            "accuracy": {"clean": 0.95, "attacks": {"fgsm": [[0.0, 0.95], [0.1, 0.5]]}},
        } | self.info  # fmt: skip

    def example(self, at):
        pixels = self.images[at]
        predicted = {
            name: model.prediction(pixels.ravel())["label"] for name, model in self.models.items()
        }
        return {"index": at, "label": int(self.labels[at]), "image": pixels.tolist(),
                "predicted": predicted}  # fmt: skip


def stub_of_digits(models=2, count=20, **options):
    """A plain and a defended linear model of 8×8 digits."""
    x, y = digits()
    made = {
        "plain": Linear.fitted(x, y, 0.1),
        "defended": Linear.fitted(x, y, 500.0, 40.0, adversarial=True),
    }
    return Stub(dict(list(made.items())[:models]), x[:count], y[:count], **options)
