"""The page in one file: its parts, and what it says of the networks in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from tiny_spec import tiny_spec

from harness import registry
from harness.errors import HarnessError
from harness.evaluation.benchmark import Benchmark
from harness.evaluation.exporting import export_playground, networks_in
from harness.evaluation.inlining import assembled, joined, one_file
from harness.evaluation.playground import bundle_of
from harness.evaluation.resolve import open_spec
from harness.maths.query import correct_count, predictions_of
from harness.networks.javascript import half_bytes, in_half, layers_in_json
from harness.protocol import (
    Architecture,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    Network,
    ReLU,
    Residual,
    Scale,
)

HOSTILE = "</script><script>alert(1)</script><!--"
MODULES = {
    "page.js": 'import { twice, name as other } from "./b.js";\nconst name = 1;\ntwice(name);\n',
    "b.js": 'import {\n  name,\n} from "./c.js";\nexport { name };\n',
    "c.js": "export const name = 2;\n",
}


@pytest.fixture(scope="module")
def benchmark_of_two(tmp_path_factory):
    """Two small networks, trained."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "two.toml").write_text(tiny_spec(models=("one", "two")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE_DIR", str(folder / "cache"))
        benchmark = Benchmark(open_spec(str(folder / "two.toml")))
        return benchmark, networks_in(benchmark, ["one", "two"], "numpy", "playground")


class Page(HTMLParser):
    """The texts of scripts and styles by what they are, and all references."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.links, self._open = {}, [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        self.links += [told[key] for key in ("src", "href", "action") if key in told]
        if tag in ("script", "style"):
            self._open = told.get("id") or told.get("type") or tag
            assert self._open not in self.texts
            self.texts[self._open] = ""
        if told.get("http-equiv") == "Content-Security-Policy":
            assert not self.texts, "a policy holds for what comes after it"
            self.policy = dict(part.split(" ", 1) for part in told["content"].split("; "))

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open:
            self.texts[self._open] += data


def hashed(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_file_holds_all_and_refers_to_nothing():
    page = Page(one_file({"models": [], "note": HOSTILE}))
    assert set(page.texts) == {"bundle", "worker", "module", "style"}
    assert json.loads(page.texts["bundle"]) == {"models": [], "note": HOSTILE}
    assert [link for link in page.links if link[0] != "#"] == ["data:,"]
    assert page.policy["default-src"] == page.policy["connect-src"] == "'none'"
    assert page.policy["script-src"] == hashed(page.texts["module"])
    assert page.policy["style-src"] == hashed(page.texts["style"])
    assert not {"unsafe", "http", "*", "self"} & set(re.findall(r"\w+|\*", str(page.policy)))
    for kind in ("module", "worker"):
        assert not re.search(r"^\s*(import|export)\b", page.texts[kind], re.MULTILINE)
    assert "url(" not in page.texts["style"]


def test_modules_become_functions_with_names_of_their_own():
    modules = MODULES | {
        "b.js": 'import {\n  name as given,\n} from "./c.js";\n'
        "export function twice(x) {\n  return given * x;\n}\nexport async function name() {}\n"
    }
    assert joined(modules, "page.js") == (
        '"use strict";\n'
        "const $c = (() => {\nconst name = 2;\nreturn { name };\n})();\n"
        "const $b = (() => {\nconst { name: given } = $c;\n"
        "function twice(x) {\n  return given * x;\n}\nasync function name() {}\n"
        "return { twice, name };\n})();\n"
        "const $page = (() => {\nconst { twice, name: other } = $b;\n"
        "const name = 1;\ntwice(name);\n})();\n"
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "'export { name };' is not in the plain form"),
        ({"b.js": "export default 1;\n"}, "'export default 1;' is not in the plain form"),
        ({"b.js": "export let a = 1;\n"}, "'export let a = 1;' is not"),
        ({"b.js": 'import "./c.js";\n'}, "is not in the plain form"),
        ({"b.js": 'import { a } from "https://c.org/c.js";\n'}, "is not in the plain form"),
        ({"b.js": 'import { a } from "./page.js";\n'}, "page.js: is not there, or imports itself"),
        ({"b.js": 'import { a } from "./d.js";\n'}, "d.js: is not there"),
        ({"b.js": 'const a = "</SCRIPT>";\n'}, "</script would end the element"),
    ],
)
def test_modules_that_are_not_in_the_plain_form_are_refused(changed, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        joined(MODULES | changed, "page.js")


def test_a_page_that_has_not_what_is_replaced_is_refused():
    modules = {"page.js": "", "local-worker.js": ""}
    with pytest.raises(ValueError, match=r"index\.html: has not once '<meta charset"):
        assembled("<html></html>", "", modules, {})


def test_the_page_says_what_it_computes_with(benchmark_of_two):
    benchmark, chosen = benchmark_of_two
    bundle = bundle_of(benchmark, chosen)
    test = benchmark.dataset.test
    for info, (name, _, network) in zip(bundle["models"], chosen, strict=True):
        half = in_half(network)
        for key, value in half.weights.items():
            np.testing.assert_array_equal(value, network.weights[key].astype(np.float16))
        model = registry.builder("numpy").build(half, dtype="float64")
        right = correct_count(predictions_of(model, test.x), test.y) / len(test)
        assert (info["name"], info["backend"]) == (name, "numpy")
        assert (info["accuracy"]["clean"], info["accuracy"]["images"]) == (right, len(test))
        assert f"{name} {100 * right:.2f} %" in bundle["note"]
        assert info["parameters"] == sum(value.size for value in network.weights.values())
        numbers = np.frombuffer(base64.b64decode(info["weights"]), "<f2")
        assert len(numbers) == info["parameters"]
    assert "Weights rounded to float16" in bundle["note"]
    assert f"the {len(test)} test images" in bundle["note"]
    classes = [example["label"] for example in bundle["examples"]]
    assert (len(classes), classes[:10]) == (20, list(range(10)))
    first = bundle["examples"][0]
    pixels = np.frombuffer(base64.b64decode(first["image"]), np.uint8).reshape(8, 8)
    np.testing.assert_array_equal(pixels, np.rint(test.x[first["index"]] * 255))
    assert set(first["predicted"]) == {"one", "two"}


def test_weights_beyond_float16_are_refused(benchmark_of_two, tmp_path):
    benchmark, ((name, backend, network), _) = benchmark_of_two
    weights = dict(network.weights)
    weights["layers.0.bias"] = weights["layers.0.bias"] + np.float32(70_000)
    large = Network(network.architecture, weights)
    with pytest.raises(
        HarnessError, match=r"layers\.0\.bias: a weight of size 7[\d.]+ does not fit"
    ):
        export_playground(benchmark, [(name, backend, large)], tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_layers_in_json():
    layers = (
        Conv(2, (3, 2), (1, 2), ((1, 0), (0, 2))), Residual((Scale(), ReLU())),
        MaxPool((2, 2), (2, 1)), Flatten(), Dense(3),
    )  # fmt: skip
    architecture = Architecture((4, 5, 3), layers, 3, channel_axis=2)
    assert layers_in_json(architecture) == [
        {"kind": "channelsfirst", "before": [4, 5, 3]},
        {"kind": "conv", "before": [3, 4, 5], "after": [2, 3, 3], "kernel": [3, 2],
         "stride": [1, 2], "padding": [[1, 0], [0, 2]]},
        {"kind": "residual", "branch": [{"kind": "scale", "before": [2, 3, 3]}, {"kind": "relu"}],
         "shortcut": []},
        {"kind": "maxpool", "before": [2, 3, 3], "after": [2, 1, 2], "size": [2, 2],
         "stride": [2, 1], "padding": [[0, 0], [0, 0]]},
        {"kind": "flatten", "before": [2, 1, 2], "last": True},
        {"kind": "dense", "in": 4, "out": 3},
    ]  # fmt: skip
    shapes = architecture.weight_shapes()
    weights = {
        name: np.full(shape, at + 0.1, np.float32)
        for at, (name, shape) in enumerate(shapes.items())
    }
    expected = [np.float16(at + 0.1) for at, shape in enumerate(shapes.values())
                for _ in range(int(np.prod(shape)))]  # fmt: skip
    found = np.frombuffer(half_bytes(architecture, weights), "<f2")
    np.testing.assert_array_equal(found, expected)
