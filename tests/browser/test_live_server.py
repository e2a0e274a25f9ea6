"""The live page of the real server, on networks that train in seconds."""

import re
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest
from backends_at_hand import package_at_hand
from live_page import draw, move, opened, picture, picture_comes, said, violations, watched
from playwright.sync_api import expect

BEGINS = re.compile(r"(http://\S+)/ ")
MODEL = """
[models.{name}]
hidden = [128]
[models.{name}.expect]
clean = [0.8, 1.0]
[models.{name}.expect.attacks.fgsm]
"0.1" = [0.0, 1.0]
[models.{name}.training]
epochs = 12
batch_size = 32
learning_rate = 4e-3
"""
SPEC = (
    'name = "live"\nseed = 0\nbackends = ["numpy"]\n[data]\nname = "digits"\n'
    "[attacks.fgsm]\nepsilons = [0.0, 0.1]\n"
    + MODEL.format(name="mlp")
    + MODEL.format(name="mlp-defended")
    + 'recipe = "fgsm-at"\naveraging = 0.9\naugmentation = "none"\n'
    + "[models.mlp-defended.training.adversary]\nepsilon = 0.08\n"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of ``harness serve``."""
    package_at_hand("fastapi", "the browser's tests need the extra serve")
    folder = tmp_path_factory.mktemp("served")
    (folder / "live.toml").write_text(SPEC, encoding="utf-8")
    command = [sys.executable, "-m", "harness", "serve", "live.toml", "--port", "0"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    lines = iter(process.stdout.readline, "")
    found = next((begun[1] for line in lines if (begun := BEGINS.search(line))), None)
    if found is None:
        pytest.fail(f"it ended before it listened: {process.stderr.read()}")
    yield found
    process.terminate()
    process.communicate(timeout=10)


@pytest.fixture
def live(chromium, noise, server):
    """Opens the page; at the end it may not have complained, nor asked anyone else."""
    with watched(chromium, noise) as window:

        def open_page(width=1280, **options):
            own = (f"{server}/", "data:", "blob:")
            return opened(window(width, **options), f"{server}/", noise, own)

        yield open_page


@pytest.mark.parametrize("width", [390, 1280])
def test_a_drawn_seven_is_seen_attacked_and_explained(live, width):
    page = live(width)
    draw(page)
    for place in range(2):
        expect(said(page, place)).to_contain_text("Taken for a 7 with")
    move(page, 0)
    expect(said(page)).to_contain_text("nothing is changed")
    page.get_by_label("of the adversarial image").check()
    before = picture(page, "map")
    for epsilon in np.arange(0.02, 0.5, 0.02).round(3):
        move(page, float(epsilon))
        expect(said(page)).to_contain_text(f"At ε = {epsilon:g} under FGSM it is")
        if "still" not in said(page).inner_text():
            break
    else:
        pytest.fail("the prediction did not change")
    assert picture_comes(page, "map", before)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_defended_model_needs_more(live):
    page = live()
    expect(page.locator(".mark:visible")).to_have_count(2)
    words = page.locator("#comparison").inner_text()
    assert re.search(r"needs ε\s=\s\S+ on mlp-defended: [\d.]+ times as much as on mlp\.$", words)
    expect(page.locator(".about").last).to_contain_text("adversarially trained (fgsm-at)")


def test_every_attack_and_method_of_the_page_is_answered(live):
    page = live()
    expect(page.locator(".mark:visible")).to_have_count(2)
    for kind in ("attack", "method"):
        names = page.locator(f"#{kind} option").evaluate_all("all => all.map(one => one.value)")
        chosen = page.locator(f"#{kind}").input_value()
        assert len(names) > 3
        for name in [name for name in names if name != chosen]:
            what = "attack" if kind == "attack" else "explain"
            path = f"**/api/v1/models/mlp/{what}"
            with page.expect_response(path) as answer:
                page.locator(f"#{kind}").select_option(name)
            assert answer.value.ok, (name, answer.value.text())
            page.wait_for_load_state("networkidle")
            assert page.locator(".model .trouble:visible").count() == 0


def test_everything_that_the_page_loads_is_in_the_package(live, server):
    page = live()
    expect(said(page)).to_contain_text("Taken for")
    loaded = page.evaluate("performance.getEntriesByType('resource').map(one => one.name)")
    own = {url.rpartition("/")[2] for url in loaded if "/static/" in url}
    assert {"style.css", "page.js", "remote.js"} <= own
    there = {path.name for path in files("harness.serve").joinpath("static").iterdir()}
    assert own <= there


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(live, theme):
    page = live(color_scheme=theme)
    expect(page.locator(".smallest").last).not_to_be_empty()
    assert violations(page) == []
