"""The live page in a browser, on linear models whose answers are known."""

import re

import numpy as np
import pytest
from live_page import draw, move, picture, picture_comes, said, violations
from live_stub import Linear, Stub, received, stub_of_digits
from playwright.sync_api import expect

WIDTHS = {"phone": 390, "desktop": 1280}
each_width = pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
TAKEN = re.compile(r"taken for an? (\d) with")


def colours(models=1, side=8):
    """Random bytes of three channels, and linear models of 3 classes, of different sharpness."""
    random = np.random.default_rng(0)
    shape = (3, side, side)
    images = random.integers(0, 256, (6, *shape)) / 255
    weight = random.normal(size=(3, 3 * side**2)) / side
    made = {
        f"model {at}": Linear((1 + at) * weight, np.zeros(3), shape, channel_axis=0)
        for at in range(models)
    }
    labels = (images.reshape(6, -1) @ weight.T).argmax(axis=1)
    return Stub(made, images, labels)


def asked(stub, what):
    return [body for path, body in stub.asked if path.endswith(f"/{what}")]


@each_width
def test_a_drawn_seven_is_attacked_until_it_is_misclassified(live, width):
    page = live(stub_of_digits(), width)
    draw(page)
    expect(said(page)).to_contain_text("Taken for a 7 with")
    expect(said(page, 1)).to_contain_text("Taken for a 7 with")
    move(page, 0)
    expect(said(page)).to_contain_text("At ε = 0 nothing is changed.")
    clean, before = picture(page, "clean"), picture(page, "adversarial")
    assert clean == before
    page.get_by_label("of the adversarial image").check()
    shown = picture(page, "map")
    for epsilon in np.arange(0.01, 0.5, 0.02).round(3):
        move(page, float(epsilon))
        expect(said(page)).to_contain_text(f"At ε = {epsilon:g} under FGSM")
        if TAKEN.findall(said(page).inner_text())[-1] != "7":
            break
    assert 0 < epsilon < 0.2
    assert picture(page, "clean") == clean
    assert picture(page, "adversarial") != before
    assert picture_comes(page, "map", shown)
    expect(page.locator(".adversarial figcaption").first).to_have_class("wrong")
    expect(said(page, 1)).to_contain_text("it is still taken for a 7")


def test_the_saliency_follows_its_image_and_its_method(live):
    stub = stub_of_digits()
    page = live(stub)
    expect(said(page)).to_contain_text("Taken for")
    before = picture(page, "map")
    label = page.locator(".map canvas").first.get_attribute("aria-label")
    assert label.startswith(
        "Saliency of the image for a 0, by gradient: the 15\u202f% most salient"
    )
    page.get_by_label("of the adversarial image").check()
    after = picture_comes(page, "map", before)
    page.locator("#method").select_option("smoothgrad")
    page.get_by_label("of the image").check()
    assert picture_comes(page, "map", after) == before, "the stub knows one method only"
    assert {body["method"] for body in asked(stub, "explain")} == {"gradient", "smoothgrad"}
    assert {body["top"] for body in asked(stub, "explain")} == {0.15}


def test_a_mark_shows_the_smallest_epsilon_and_goes_there(live):
    stub = stub_of_digits()
    page = live(stub)
    expect(page.locator(".mark:visible")).to_have_count(2)
    for place, (name, model) in enumerate(stub.models.items()):
        pixels = stub.images[0].ravel()
        smallest = model.smallest(pixels, 0, 1.0)["epsilon"]
        mark = page.locator(".mark button").nth(place)
        expect(mark).to_contain_text(f"{smallest:.3g} {name}")
        expect(page.locator(".smallest").nth(place)).to_contain_text(
            f"misclassified: {smallest:.3g}"
        )
        mark.click()
        chosen = float(page.locator("#epsilon").input_value())
        assert smallest <= chosen < smallest + 0.005 + 1e-9
        expect(said(page, place)).not_to_contain_text("still")
        expect(said(page, place)).to_contain_text(f"At ε = {chosen:.3g} under FGSM it is taken for")
    both = [model.smallest(pixels, 0, 1.0)["epsilon"] for model in stub.models.values()]
    words = page.locator("#comparison").inner_text().replace("\xa0", " ")
    assert words.startswith(f"To have this image misclassified, FGSM needs ε = {both[1]:.3g} on")
    assert words.endswith("times as much as on plain.")
    assert float(words.split()[-7]) == pytest.approx(both[1] / both[0], abs=0.0501)


def test_an_image_that_is_misclassified_as_it_is(live):
    stub = stub_of_digits(models=1)
    stub.labels = (stub.labels + 1) % 10
    page = live(stub)
    expect(said(page)).to_contain_text("Taken for a 0 with")
    expect(said(page)).to_contain_text("but it is a 1.")
    expect(page.locator(".smallest")).to_have_text("Misclassified as it is.")
    assert {body["labels"][0] for body in asked(stub, "attack")} == {1}, (
        "the true class is attacked"
    )


def test_no_smallest_epsilon_where_none_is_searched_for(live):
    stub = stub_of_digits(models=1)
    page = live(stub)
    expect(page.locator(".mark:visible")).to_have_count(1)
    page.locator("#attack").select_option("pgd-l2")
    expect(page.locator(".mark:visible")).to_have_count(0)
    expect(page.locator("#bound")).to_have_text("ε, the L2 norm of the change")
    assert page.locator("#epsilon").get_attribute("max") == "1.5", "of 64 pixels"
    expect(said(page)).to_contain_text("under PGD, L2")
    page.locator("#attack").select_option("noise")
    expect(page.locator(".mark:visible")).to_have_count(1)
    assert [body["attack"] for body in asked(stub, "smallest")] == ["fgsm", "pgd"]


STATES = {
    "two models": stub_of_digits,
    "one model": lambda: stub_of_digits(models=1),
    "colours": lambda: colours(2),
    "no test images": lambda: stub_of_digits(count=0),
    "more models than two": lambda: colours(3),
}


@each_width
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing_and_nothing_is_wider_than_the_window(live, state, theme, width):
    page = live(STATES[state](), width, color_scheme=theme)
    if state == "no test images":
        expect(said(page)).to_have_text("Draw something, or take a test image.")
        assert page.locator("#examples:visible").count() == 0
    else:
        expect(page.locator(".smallest").last).not_to_be_empty()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_where_something_went_wrong(live, noise, theme):
    stub = stub_of_digits(models=1)
    page = live(stub, color_scheme=theme)
    expect(said(page)).to_contain_text("Taken for a 0")
    stub.broken = lambda path, body: (422, {}, {"error": "epsilon must be at most 1"})
    move(page, 0.3)
    expect(page.locator(".model .trouble")).to_contain_text("Epsilon must be at most 1.")
    assert violations(page) == []
    noise.clear()


def test_of_colour_images_only_test_images_are_taken(live):
    stub = colours()
    page = live(stub)
    expect(said(page)).to_contain_text("Taken for")
    assert page.locator("#drawing:visible").count() == 0
    assert page.locator("h1").inner_text() == "Try it on a test image"
    assert page.locator("#examples input").count() == len(stub.images)
    assert np.array(asked(stub, "attack")[0]["images"][0]).tolist() == stub.images[0].tolist()
    pixels = page.locator(".clean canvas").evaluate(
        "canvas => [...canvas.getContext('2d').getImageData(0, 0, 8, 8).data]"
    )
    shown = np.array(pixels).reshape(8, 8, 4)[..., :3]
    assert np.abs(shown - 255 * stub.images[0].transpose(1, 2, 0)).max() <= 0.5 + 1e-9


def test_large_images_are_sent_as_png(live):
    stub = colours(side=128)
    page = live(stub)
    expect(said(page)).to_contain_text("Taken for")
    sent = asked(stub, "attack")[0]["images"][0]
    assert sent.startswith("data:image/png;base64,")
    assert len(sent) < 1_000_000
    assert np.allclose(received(sent, 0), stub.images[0])
    assert stub.counts == [4]


def test_of_more_models_two_are_chosen(live):
    page = live(colours(3))
    expect(page.locator(".model select")).to_have_count(2)
    first = page.locator(".model select").first
    assert first.locator("option").all_inner_texts() == ["model 0", "model 2"]
    first.select_option("model 2")
    expect(page.locator(".model select").first).to_be_focused()
    expect(page.locator(".name")).to_have_text(["model 2", "model 1"])
    expect(page.locator(".said").first).to_contain_text("Taken for")


def test_a_plain_model_stands_beside_a_defended_one(live):
    stub = stub_of_digits()
    stub.models = dict(reversed(stub.models.items()))
    page = live(stub)
    expect(page.locator(".name")).to_have_text(["plain", "defended"])
    expect(page.locator(".about").last).to_contain_text("adversarially trained (pgd-at)")


def kept(stub, page, count):
    """Waits until so many requests are kept."""
    for _ in range(1000):
        if len(stub.kept) >= count:
            break
        page.wait_for_timeout(20)
    assert len(stub.kept) == count
    return stub.kept


def test_a_model_is_asked_one_thing_at_a_time_and_the_newest_wins(live):
    stub = stub_of_digits()
    page = live(stub)
    expect(page.locator(".mark:visible")).to_have_count(2)
    stub.keep = lambda path, body: path.startswith("models/") and "smallest" not in path
    for epsilon in (0.2, 0.25, 0.3, 0.35):
        move(page, epsilon)
    waiting = kept(stub, page, 2)
    page.wait_for_timeout(300)
    assert len(waiting) == 2, "one for each model; the rest waits"
    (first, answer), (second, other) = waiting
    stub.keep = None
    second.fulfill(json=other)  # the second model is quicker
    expect(said(page, 1)).to_contain_text("At ε = 0.35 under FGSM")
    expect(said(page, 0)).to_contain_text("At ε = 0.1 under FGSM")
    first.fulfill(json=answer)
    expect(said(page, 0)).to_contain_text("At ε = 0.35 under FGSM")
    tried = [body["epsilon"] for body in asked(stub, "attack")]
    assert tried.count(0.2) == tried.count(0.35) == 2
    assert 0.25 not in tried
    assert 0.3 not in tried


def test_an_answer_about_an_image_that_is_gone_is_not_shown(live):
    stub = stub_of_digits(models=1)
    page = live(stub)
    expect(page.locator(".mark:visible")).to_have_count(1)
    stub.keep = lambda path, body: path.endswith(("/attack", "/explain"))
    page.locator("#examples input").nth(3).check()
    ((route, answer),) = kept(stub, page, 1)
    page.locator("#clear").click()
    route.fulfill(json=answer)
    words = "Draw something, or take a test image."
    expect(said(page)).to_have_text(words, timeout=10_000)  # no answer is given up before
    page.wait_for_timeout(400)
    assert page.locator(".answer:visible, .mark:visible").count() == 0


def test_the_slider_does_not_wait_for_the_smallest_epsilon(live):
    stub = stub_of_digits(models=1, keep=lambda path, body: path.endswith("/smallest"))
    page = live(stub)
    kept(stub, page, 1)
    move(page, 0.3)
    expect(said(page)).to_contain_text("At ε = 0.3 under FGSM")
    kept(stub, page, 2)
    route, answer = stub.kept[-1]
    route.fulfill(json=answer)
    expect(page.locator(".mark:visible")).to_have_count(1)


def test_a_busy_server_is_asked_once_more(live, noise):
    stub = stub_of_digits(models=1)
    page = live(stub)
    expect(page.locator(".mark:visible")).to_have_count(1)
    refused = []

    def busy(path, body):
        if path.endswith("/attack") and len(refused) < limit:
            refused.append(body["epsilon"])
            return 429, {"Retry-After": "0.2"}, {"error": "The queue is full."}
        return None

    stub.broken, limit = busy, 1
    move(page, 0.2)
    expect(said(page)).to_contain_text("At ε = 0.2 under FGSM")
    assert refused == [0.2]
    refused.clear()
    limit = 2
    move(page, 0.3)
    trouble = page.locator(".model .trouble")
    expect(trouble).to_contain_text("The server is busy. Try again in a moment.")
    assert refused == [0.3, 0.3]
    trouble.get_by_role("button", name="Try again").click()
    expect(said(page)).to_contain_text("At ε = 0.3 under FGSM")
    expect(trouble).to_be_hidden()
    noise[:] = [words for words in noise if "429" not in words]


def test_without_a_server_one_sentence_is_said_and_the_page_goes_on(live, noise):
    stub = stub_of_digits(models=1, broken=lambda path, body: "gone")
    page = live(stub)
    trouble = page.locator("#trouble")
    expect(trouble).to_contain_text("The server does not answer. Is harness serve still running?")
    assert violations(page) == []
    stub.broken = None
    trouble.get_by_role("button", name="Try again").click()
    expect(said(page)).to_contain_text("Taken for a 0")
    expect(trouble).to_be_hidden()
    stub.broken = lambda path, body: "gone"
    move(page, 0.2)
    expect(page.locator(".model .trouble")).to_contain_text("The server does not answer.")
    expect(page.locator(".model")).to_have_class(re.compile("old"))
    stub.broken = None
    move(page, 0.25)
    expect(said(page)).to_contain_text("At ε = 0.25 under FGSM")
    expect(page.locator(".model .trouble")).to_be_hidden()
    expect(page.locator(".model")).not_to_have_class(re.compile("old"))
    noise[:] = [words for words in noise if "ERR_CONNECTION_REFUSED" not in words]


def test_nothing_moves_for_those_who_want_no_motion(live):
    page = live(stub_of_digits(models=1), reduced_motion="reduce")
    expect(said(page)).to_contain_text("Taken for a 0")
    moving = page.evaluate(
        "[...document.querySelectorAll('*')].filter((one) => {"
        " const style = getComputedStyle(one);"
        " return style.transitionDuration !== '0s' || style.animationName !== 'none'; }).length"
    )
    assert moving == 0
