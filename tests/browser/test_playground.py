"""The page in one file, opened from disk without a network: it computes by itself."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from live_page import SEVEN, draw, move, opened, picture, picture_comes, said, violations, watched
from playwright.sync_api import expect

from harness import registry
from harness.attacks.fgsm import FGSM
from harness.attacks.minimal import along_gradient
from harness.evaluation.benchmark import Benchmark
from harness.evaluation.exporting import export_playground, networks_in
from harness.evaluation.resolve import open_spec
from harness.networks.javascript import in_half

WIDTHS = {"phone": 390, "desktop": 1280}
each_width = pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
TAKEN = re.compile(r"taken for an? (\d) with")
SPEC = """
name = "page"
backends = ["numpy"]
[data]
name = "digits"
[attacks.fgsm]
epsilons = [0.0, 0.1]
[models.plain]
hidden = [64, 32]
training = { epochs = 15, batch_size = 64, learning_rate = 0.005 }
expect = { clean = [0.8, 1.0] }
[models.defended]
hidden = [64, 32]
training = { recipe = "fgsm-at", epochs = 15, augmentation = "none", adversary = { epsilon = 0.1 } }
expect = { clean = [0.8, 1.0] }
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The spec, opened, and its two networks."""
    folder = tmp_path_factory.mktemp("playground")
    (folder / "page.toml").write_text(SPEC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE_DIR", str(folder / "cache"))
        benchmark = Benchmark(open_spec(str(folder / "page.toml")))
        yield benchmark, networks_in(benchmark, ["plain", "defended"], "numpy", "playground")


@pytest.fixture(scope="module")
def file(two, tmp_path_factory):
    path = tmp_path_factory.mktemp("pages") / "two digits & more.html"
    export_playground(*two, path)
    return path


def oracle(two, place=0):
    return registry.builder("numpy").build(in_half(two[1][place][2]), dtype="float64")


@pytest.fixture
def page_of(chromium, noise):
    """Opens a file, offline; at the end nothing may have been asked for or complained of."""
    with watched(chromium, noise) as window:

        def open_page(path, width=1280, script="", **options):
            context = window(width, offline=True, **options)
            context.set_default_timeout(10_000)
            own = (path.as_uri(), "data:", "blob:null/")
            page = opened(context, path.as_uri(), noise, own, script)
            expect(said(page)).to_contain_text("Taken for")
            return page

        yield open_page


NO_WORKERS = "window.Worker = class { constructor() { throw new Error('no'); } };"
BROKEN_WORKERS = """
const Theirs = window.Worker;
window.Worker = class extends Theirs {
  constructor() { super(URL.createObjectURL(new Blob(["throw new Error('no')"]))); }
};
"""


@each_width
def test_a_drawn_seven_is_attacked_until_it_is_misclassified(page_of, file, width):
    page = page_of(file, width)
    draw(page)
    expect(said(page)).to_contain_text("Taken for a 7 with")
    expect(said(page, 1)).to_contain_text("Taken for a 7 with")
    move(page, 0)
    expect(said(page)).to_contain_text("At ε = 0 nothing is changed.")
    before, map_before = picture(page, "adversarial"), picture(page, "map")
    page.get_by_label("of the adversarial image").check()
    for epsilon in np.arange(0.01, 0.5, 0.02).round(3):
        move(page, float(epsilon))
        expect(said(page)).to_contain_text(f"At ε = {epsilon:g} under FGSM")
        if TAKEN.findall(said(page).inner_text())[-1] != "7":
            break
    else:
        pytest.fail("never misclassified")
    assert picture(page, "adversarial") != before
    assert picture_comes(page, "map", map_before)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("script", ["", NO_WORKERS, BROKEN_WORKERS], ids=["", "no", "broken"])
def test_what_it_says_is_what_the_harness_computes(page_of, file, two, script):
    """With a worker, and without one."""
    page = page_of(file, script=script)
    model, test = oracle(two), two[0].dataset.test
    for number in (0, 3, 7):
        radio = page.locator("input[name=example]").nth(number)
        radio.check(force=True)
        at = int(radio.get_attribute("value"))
        # The page has its test images as bytes.
        x, y = np.rint(test.x[at : at + 1].astype(np.float64) * 255) / 255, test.y[at : at + 1]
        epsilon = 0.2
        move(page, epsilon)
        (adversarial,) = FGSM().perturb(model, x, y, [epsilon], index=np.array([0]))
        labels = [int(model.logits(images).argmax()) for images in (x, adversarial)]
        expect(said(page)).to_contain_text(f"At ε = {epsilon:g} under FGSM")
        expect(said(page)).to_contain_text(
            re.compile(rf"aken for an? {labels[0]} with.*{labels[1]} with")
        )
        (smallest,) = along_gradient(model, x, y, 1.0).epsilons
        words = f"misclassified: {smallest:.3g} (FGSM)" if np.isfinite(smallest) else "any ε tried"
        expect(page.locator(".smallest").first).to_contain_text(words)


def test_pgd_and_every_saliency_method_are_there(page_of, file):
    page = page_of(file)
    page.locator("#attack").select_option("pgd")
    move(page, 0.3)
    expect(said(page)).to_contain_text("At ε = 0.3 under PGD it is taken for")
    expect(page.locator(".smallest").first).to_contain_text("(PGD)")
    names = page.locator("#method option").all_inner_texts()
    assert names == ["gradient", "gradient x input", "integrated gradients", "loss gradient"]
    shown = picture(page, "map")
    for name in names[1:3]:
        page.locator("#method").select_option(label=name)
        shown = picture_comes(page, "map", shown)


def test_the_page_states_its_weights_and_their_accuracy(page_of, file, two):
    page = page_of(file)
    note = page.locator("#note").inner_text()
    test = two[0].dataset.test
    assert "Weights rounded to float16" in note
    for place, name in enumerate(("plain", "defended")):
        right = (oracle(two, place).logits(test.x).argmax(axis=1) == test.y).mean()
        assert f"{name} {100 * right:.2f} %" in note
    assert f"on the {len(test)} test images with these weights" in note
    expect(page.locator(".about").first).to_contain_text("weights in float16")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page_of, file, scheme):
    assert violations(page_of(file, color_scheme=scheme)) == []


def test_its_policy_lets_nothing_out(chromium, file):
    """Online, too: a script of its own may not fetch, nor load a picture from elsewhere."""
    context = chromium.new_context()
    asked = []
    context.route("http://**", lambda route: (asked.append(route.request.url), route.abort()))
    page = context.new_page()
    page.goto(Path(file).as_uri())
    outcome = page.evaluate(
        """async () => {
          const picture = new Image();
          const loaded = new Promise((done) => {
            picture.onload = picture.onerror = (event) => done(event.type);
          });
          picture.src = "http://elsewhere.test/a.png";
          const fetched = await fetch("http://elsewhere.test/").catch((error) => error.name);
          const script = document.createElement("script");
          script.textContent = "window.ran = 1";
          document.body.append(script);
          return [await loaded, fetched, window.ran ?? 0];
        }"""
    )
    context.close()
    assert outcome == ["error", "TypeError", 0]
    assert asked == []


def test_a_drawing_is_the_same_image_for_both(page_of, file):
    page = page_of(file, 390)
    draw(page, SEVEN)
    expect(said(page)).to_contain_text("Taken for a 7 with")
    assert picture(page, "clean", 0) == picture(page, "clean", 1)
    assert json.loads(page.locator("#bundle").text_content())["models"][1]["adversarial"] is True
