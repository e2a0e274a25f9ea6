"""Drawing on the live page: with keys and fingers, and the image that becomes of it."""

import numpy as np
from live_page import SEVEN, said
from live_stub import digits, stub_of_digits
from playwright.sync_api import expect


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
