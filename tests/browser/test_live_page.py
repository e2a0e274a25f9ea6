"""The live page in a browser, on linear models whose answers are known."""

import re

import numpy as np
import pytest
from live_page import SEVEN, draw, move, opened, picture, picture_comes, said, violations
from live_stub import ORIGIN, Linear, Stub, digits, received, stub_of_digits
from playwright.sync_api import expect

WIDTHS = {"phone": 390, "desktop": 1280}
each_width = pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
TAKEN = re.compile(r"taken for an? (\d) with")


@pytest.fixture
def noise():
    return []


@pytest.fixture
def live(chromium, noise):
    """Opens the page on a stub; at the end it may not have complained, nor asked anyone else."""
    contexts = []

    def open_page(stub, width=1280, **options):
        options.setdefault("color_scheme", "light")
        context = chromium.new_context(viewport={"width": width, "height": 860}, **options)
        contexts.append(context)
        stub.install(context)
        return opened(context, f"{ORIGIN}/", noise, ORIGIN)

    yield open_page
    for context in contexts:
        for page in context.pages:
            noise += page.evaluate("window.violations")
        context.close()
    assert noise == []


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


def test_everything_works_by_keyboard(live):
    page = live(stub_of_digits(models=1))
    expect(said(page)).to_contain_text("Taken for a 0")

    def tab():
        page.keyboard.press("Tab")

    tab()
    expect(page.locator(".skip")).to_be_focused()
    tab()
    expect(page.locator("#drawing")).to_be_focused()
    page.keyboard.press(" ")
    expect(page.locator("#pen")).to_have_text("Pen down: arrow keys draw.")
    for key, times in (("ArrowRight", 8), ("ArrowDown", 1)):
        for _ in range(times):
            page.keyboard.press(key)
    for _ in range(5):
        for key in ("ArrowLeft", "ArrowDown", "ArrowDown"):
            page.keyboard.press(key)
    page.keyboard.press(" ")
    expect(page.locator("#pen")).to_have_text("Pen up.")
    expect(said(page)).to_contain_text("Taken for a 7")
    assert page.evaluate("scrollY") == 0, "arrow keys draw, and nothing else"
    page.keyboard.press("Backspace")
    expect(said(page)).to_have_text("Draw something, or take a test image.")
    for name in ("#undo", "#clear"):
        tab()
        expect(page.locator(name)).to_be_focused()
    tab()
    page.keyboard.press(" ")
    expect(said(page)).to_contain_text("Taken for a 0")
    page.keyboard.press("ArrowRight")
    expect(said(page)).to_contain_text("Taken for a 1")
    tab()
    expect(page.locator("#attack")).to_be_focused()
    tab()
    page.keyboard.press("End")
    expect(said(page)).to_contain_text("At ε = 0.5 under FGSM")
    tab()
    page.keyboard.press("Enter")
    expect(page.locator("#epsilon")).not_to_have_value("0.5")
    for name in ("#method", "[name=side]:checked"):
        tab()
        expect(page.locator(name)).to_be_focused()


def test_a_finger_draws_without_scrolling_the_page(live):
    page = live(stub_of_digits(models=1), 390, has_touch=True)
    expect(said(page)).to_contain_text("Taken for a 0")
    box = page.locator("#drawing").bounding_box()
    hand = page.context.new_cdp_session(page)

    def send(kind, points):
        hand.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    upwards = SEVEN[::-1]  # as the page would be scrolled
    corners = [np.linspace(upwards[at], upwards[at + 1], 8) for at in range(2)]
    places = [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
              for x, y in np.concatenate(corners).tolist()]  # fmt: skip
    send("touchStart", places[:1])
    for place in places[1:]:
        send("touchMove", [place])
    send("touchEnd", [])
    expect(said(page)).to_contain_text("Taken for a 7")
    assert page.evaluate("scrollY") == 0


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


FITTED = """async ([shape, bounds, images, strokes]) => {
  const { fitted, manner } = await import("/static/fitting.js");
  const { layoutOf } = await import("/static/pictures.js");
  const layout = layoutOf({ shape, channel_axis: null });
  const how = manner(layout, bounds, images.map((image) => Float64Array.from(image)));
  return Array.from(fitted(strokes, layout, bounds, how));
}"""


def drawn(page, shape, strokes, images=(), bounds=(0.0, 1.0)):
    strokes = [[{"x": x, "y": y} for x, y in stroke] for stroke in strokes]
    images = [np.ravel(image).tolist() for image in images]
    found = page.evaluate(FITTED, [list(shape), list(bounds), images, strokes])
    return np.array(found).reshape(shape)


def box(ink):
    rows, columns = (np.flatnonzero((ink > 0.01).any(axis=axis)) for axis in (1, 0))
    return rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def centre(ink):
    at = np.arange(len(ink)) + 0.5
    return ink.sum(axis=1) @ at / ink.sum(), ink.sum(axis=0) @ at / ink.sum()


L = [[(0.1, 0.1), (0.1, 0.5), (0.35, 0.5)]]


def test_a_drawing_is_fitted_and_centred_as_those_of_mnist(live):
    page = live(stub_of_digits(models=1))
    small = drawn(page, (28, 28), L)
    assert max(box(small)) in (20, 21), "20 pixels, on borders of pixels or between them"
    assert np.allclose(centre(small), 14.5, atol=0.02)
    assert small.min() == 0
    assert small.max() == 1
    large = drawn(page, (28, 28), [[(2 * x, 2 * y) for x, y in L[0]]])
    assert np.abs(small - large).max() < 0.05, "however large it is drawn, and wherever"
    assert np.allclose(drawn(page, (1, 28, 28), L)[0], small)
    assert np.allclose(drawn(page, (28, 28, 1), L)[..., 0], small)
    assert np.allclose(drawn(page, (784,), L).reshape(28, 28), small)
    assert np.allclose(drawn(page, (28, 28), L, bounds=(-1.0, 1.0)), 2 * small - 1)
    bytes_ = 255 * small
    assert np.allclose(bytes_, bytes_.round()), "test images are bytes, too"
    speck = drawn(page, (28, 28), [[(0.9, 0.9)]])
    assert 3 < speck.sum() < 8, "a dot stays one"
    assert np.allclose(centre(speck), 14.5, atol=0.1)


def test_a_drawing_is_fitted_as_the_test_images_are(live):
    page = live(stub_of_digits(models=1))
    images = digits(100)[0]
    ink = drawn(page, (8, 8), L, images)
    assert max(box(ink)) == 8, "these reach from edge to edge"
    assert abs(centre(ink)[1] - np.mean([centre(image)[1] for image in images])) < 0.2
    assert 0.6 < ink.sum() / images.sum(axis=(1, 2)).mean() < 1.4
    alone = drawn(page, (8, 8), L)
    assert max(box(alone)) in (6, 7), "without any: as MNIST's, 8 * 20/28"
    assert np.allclose(drawn(page, (8, 8), L, 1 - images), 1 - ink), "dark ink on light ground"
