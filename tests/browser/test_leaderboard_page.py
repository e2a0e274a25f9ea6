"""The leaderboard in a browser: by keyboard, on a phone, without JavaScript, and read by axe."""

from importlib.resources import files

import pytest
from synthetic import synthetic_run

from harness.results.records import counted
from reports.leaderboard import Entrant, write

WIDTHS = (390, 1280)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    runs = []
    for at in range(3):
        run = synthetic_run(backends=["torch"], models=["mlp", "cnn"], seed=at)
        run.put(counted("mlp", "torch", "certified/crown", 5 + at, 60, 0.1, norm="linf"))
        runs.append(Entrant(run, f"run-{at}"))
    # Other images of the same name.
    other = synthetic_run(backends=["torch"])
    other.data_sha256 = "e" * 64
    runs.append(Entrant(other, "other"))
    path = tmp_path_factory.mktemp("board") / "leaderboard.html"
    return write(runs, path).as_uri()


@pytest.fixture
def opened(chromium, address):
    contexts, said = [], []

    def open_page(width=1280, **options):
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda asked: said.append(asked.url) if asked.url != address else None)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [line for line in said if not line.startswith("data:")] == []


def column(page, number):
    return page.eval_on_selector_all(
        "table.board:first-of-type tbody", "(bodies, n) => [...bodies[0].rows].map("
        "row => Number(row.cells[n].dataset.value))", number,
    )  # fmt: skip


def test_headings_sort_by_keyboard(opened):
    page = opened()
    heading = page.get_by_role("button", name="Certified").first
    heading.focus()
    page.keyboard.press("Enter")
    values = column(page, 4)
    assert values == sorted(values, reverse=True)
    assert len(set(values)) > 2
    assert heading.evaluate("b => b.parentElement.ariaSort") == "descending"
    page.keyboard.press("Enter")
    assert column(page, 4) == sorted(values)
    page.get_by_role("button", name="Rank").first.press("Enter")
    assert column(page, 0) == sorted(column(page, 0))


def test_differences_are_to_the_chosen_entry(opened):
    page = opened()
    page.get_by_label("Differences to").select_option(label="run-2, torch · cnn")
    rows = page.eval_on_selector_all(
        "table.board", "tables => [...tables[0].tBodies[0].rows].map("
        "row => [Number(row.dataset.worst), row.querySelector('.difference').textContent,"
        " row.classList.contains('compared')])",
    )  # fmt: skip
    (base,) = (worst for worst, _, compared in rows if compared)
    for worst, text, _ in rows:
        assert float(text.replace("−", "-")) == pytest.approx(100 * (worst - base), abs=0.051)
    assert len({text for _, text, _ in rows}) > 2
    assert page.get_by_role("button", name="Points to the chosen").count() > 0


@pytest.mark.parametrize("script", [True, False])
def test_curves_are_chosen_by_their_boxes(opened, script):
    page = opened(java_script_enabled=script)
    curve = page.locator('#contest-1 [data-curve="0"]')
    box = page.locator("#curve-1-0")
    assert (curve.is_visible(), box.is_checked()) == (True, True)
    box.press(" ")
    assert (curve.is_visible(), box.is_checked()) == (False, False)


def test_without_javascript_the_tables_are_there_and_nothing_that_does_nothing(opened):
    page = opened(java_script_enabled=False)
    rows = page.locator("table.board").first.locator("tbody tr")
    assert rows.count() == 6
    assert all("%" in text for text in rows.all_inner_texts())
    assert page.get_by_role("button").count() == 0
    assert not page.get_by_label("Differences to").is_visible()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation_and_nothing_is_wider_than_the_page(opened, width, theme):
    page = opened(width, color_scheme=theme, bypass_csp=True)
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    for _ in range(2):
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate("for (const box of document.querySelectorAll('details')) box.open = true")


def test_a_printed_leaderboard_has_nothing_to_be_clicked(opened):
    page = opened(width=700, color_scheme="dark")
    page.emulate_media(media="print")
    for selector in (".more", ".board thead td", "input", "select", ".screen"):
        assert page.locator(f"{selector}:visible").count() == 0, selector
    arrow = "th => getComputedStyle(th, '::after').display"
    assert page.locator(".board th button").first.evaluate(arrow) == "none"
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    # A curve that was not chosen is not named either.
    shown = page.locator(".curves label:visible").count()
    page.emulate_media(media="screen")
    page.locator("#curve-1-0").uncheck()
    page.emulate_media(media="print")
    assert page.locator(".curves label:visible").count() == shown - 1
