"""What a person does on the live page, and sees there."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.resources import files

from playwright.sync_api import expect

expect.set_options(timeout=30_000)  # as long as other actions: a busy machine is no failure

SEVEN = [(0.25, 0.2), (0.75, 0.2), (0.45, 0.85)]
WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
  violations.push(`${violatedDirective} ${blockedURI}`));
"""


@contextmanager
def watched(chromium, noise):
    """Makes windows of a width; at the end no page in them may have been noisy."""
    contexts = []

    def window(width, **options):
        options.setdefault("color_scheme", "light")
        context = chromium.new_context(viewport={"width": width, "height": 860}, **options)
        contexts.append(context)
        return context

    yield window
    for context in contexts:
        for page in context.pages:
            noise += page.evaluate("window.violations")
        context.close()
    assert noise == []


def opened(context, address, noise, own, script=""):
    """The page in a new tab; what it complains of, or asks of others than its own, is noise.

    Args:
        context: The window.
        address: Of the page.
        noise: What is added to.
        own: What the addresses begin with that it may ask.
        script: What is run before its own.
    """
    page = context.new_page()
    page.add_init_script(WATCH + script)
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.on("console", lambda message: noise.append(message.text))
    page.on("request", lambda asked: None if asked.url.startswith(own) else noise.append(asked.url))
    page.goto(address)
    return page


def draw(page, points=SEVEN):
    """With the mouse, through points in shares of the sheet."""
    sheet = page.locator("#drawing")
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=12)
    page.mouse.up()


def move(page, epsilon):
    """The slider, as a person's hand does."""
    page.locator("#epsilon").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }",
        epsilon,
    )


def said(page, place=0):
    """What is said of a model."""
    return page.locator(".said").nth(place)


def picture(page, kind, place=0):
    """All pixels of one of a model's pictures."""
    return page.locator(f".{kind} canvas").nth(place).evaluate("canvas => canvas.toDataURL()")


def picture_comes(page, kind, other, place=0):
    """Waits until a picture is another one, and returns it."""
    page.wait_for_function(
        "([kind, place, other]) => "
        "document.querySelectorAll(`.${kind} canvas`)[place].toDataURL() !== other",
        arg=[kind, place, other],
    )
    return picture(page, kind, place)


def violations(page):
    """Of axe's rules, at any severity."""
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, { resultTypes: ['violations', 'incomplete'] })")
    assert found["passes"]
    return [
        (one["id"], one["impact"], one["nodes"][0]["html"][:200]) for one in found["violations"]
    ]
