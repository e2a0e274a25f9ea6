"""What a reader sees: the slider moves, nothing is fetched, and everyone can read it."""

import os
import re
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from synthetic import METHODS, synthetic_run

from harness.gate import Comparison, Row
from harness.results.records import DataInfo, ModelInfo, Record, counted
from reports import render, render_all
from reports.page import Source

HOSTILE = "<script>alert('x')</script>"
OPEN = """
document.querySelectorAll('details').forEach(d => { d.removeAttribute('name'); d.open = true; });
document.querySelectorAll('.choice').forEach(d => { d.hidden = false; });
"""
SLIDER = "#choose-epsilon"
WIDTHS = {"phone": 390, "desktop": 1280}


def everything(**parts):
    """A run with all sections."""
    run = synthetic_run(**parts)
    for backend, model in {(r.backend, r.model) for r in run.records}:
        begin = f"{backend}/{model}"
        run.arrays[f"{begin}/minimal-epsilon/pgd"] = np.linspace(0.1, 0.6, 60)
        for name, value in {
            "index": np.array([0, 1, 58, 59]), "labels": np.zeros(4, np.int16),
            "clean": np.random.default_rng(0).random((4, 6, 6)),
            "adversarial": np.random.default_rng(1).random((4, 6, 6)),
        }.items():  # fmt: skip
            run.arrays[f"{begin}/minimal-epsilon/pgd/extremes/{name}"] = value
        run.put(counted(model, backend, "pgd", 12, 60, 0.1, norm="linf"))
        for rule in ("constant", "probabilities"):
            record = Record(model=model, backend=backend, check=f"validity/{rule}")
            run.put(record.judged("passed"))
        for method in METHODS:
            record = Record(model=model, backend=backend,
                            check=f"saliency-sanity/{method}/finite")  # fmt: skip
            run.put(record.judged("passed"))
    return run


def failing():
    run = everything(backends=["torch"])
    clean = run.find(("mlp", "torch", "clean", None))
    run.put(clean.judged("failed", "accuracy 0.5 is below 0.9", (0.9, None)))
    run.put(Record(model="mlp", backend="torch", check="apgd", epsilon=0.1, status="error",
                   reason="MemoryError: it broke"))  # fmt: skip
    run.put(Record(model="mlp", backend="jax", check="clean", status="skipped",
                   reason="not installed"))  # fmt: skip
    lost = Row(("mlp", "torch", "fgsm", 0.1), "regressed", 0.7, 0.6, (-0.2, 0.0), 0.001)
    return Source(run, comparison=Comparison((lost,), False, "failed: 1 regressed", ("a note",)))


def bare():
    """Without saliency, training or search."""
    run = synthetic_run(backends=["numpy"])
    run.records = [r for r in run.records if not r.check.startswith("saliency")]
    run.models = []
    for key in [key for key in run.arrays if "saliency" in key or "/maps/" in key]:
        del run.arrays[key]
    return run


def hostile():
    return everything(backends=[HOSTILE], models=[HOSTILE], classes=[HOSTILE, "b"], name=HOSTILE)


def unanswered():
    run = everything(backends=["torch"])
    run.arrays["torch/mlp/clean/predictions"][3] = -1
    run.arrays["torch/mlp/fgsm@0.2/predictions"][:2] = -1
    return run


def own():
    """As of somebody's own model: colours, many classes, notes, images that were not answered."""
    run = everything(backends=["torch"], classes=[f"kind {at}" for at in range(30)])
    random = np.random.default_rng(0)
    for key, values in run.arrays.items():
        if re.search("/(examples|extremes)/", key) and values.shape[-2:] == (6, 6):
            grown = random.random((*values.shape[:-2], 3, 6, 6), dtype=np.float32)
            run.arrays[key] = grown > 0.5 if values.dtype == bool else grown
    run.arrays["torch/mlp/clean/predictions"][3] = -1
    run.arrays["torch/mlp/fgsm@0.2/predictions"][:2] = -1
    run.data = DataInfo(source="test.npz", images=60, shape=(3, 6, 6), dtype="float32",
                        bounds=(0.0, 1.0), channel_axis=0)  # fmt: skip
    run.models = [
        ModelInfo(model=name, backend="torch", fingerprint="f", kind="torch.nn.Module ResNet",
                  source="package.module:function_with_a_long_name", parameters=11_173_962)
        for name in ("mlp", "b", "c", "d")
    ]  # fmt: skip
    run.notes = ["epsilon 8 is 8 times the range of the pixels", "bytes were divided by 255"]
    run.records = [
        record.model_copy(update={
            "status": "measured", "epsilon": 8 / 255 if record.epsilon == 0.1 else record.epsilon,
        })
        for record in run.records
    ]  # fmt: skip
    for key in list(run.arrays):
        run.arrays[re.sub(r"@0\.1(?=/|$)", f"@{8 / 255:g}", key)] = run.arrays.pop(key)
    run.put(Record(model="mlp", backend="torch", check="saliency/strokes", status="skipped",
                   reason="the data has no strokes"))  # fmt: skip
    return run


def certified(wrong=()):
    """A random model with certificates, of the images named although they are misclassified."""
    run = everything(backends=["torch"])
    left = {
        epsilon: run.arrays[f"torch/mlp/fgsm@{epsilon:g}/predictions"] == run.arrays["labels"]
        for epsilon in (0.0, 0.05, 0.1, 0.2, 0.3)
    }
    sure = np.all(list(left.values()), axis=0)
    sure &= run.arrays["torch/mlp/clean/predictions"] == run.arrays["labels"]
    sure[list(wrong)] = True
    for epsilon in (0.05, 0.1):
        run.put(counted("mlp", "torch", "certified/crown", int(sure.sum()), 60, epsilon,
                        norm="linf"))  # fmt: skip
        run.arrays[f"torch/mlp/certified/crown@{epsilon:g}/certified"] = sure
    run.records = [record for record in run.records if record.check != "pgd"]
    fgsm = run.find(("mlp", "torch", "fgsm", 0.1))
    run.put(fgsm.model_copy(update={"forwards": 1.0, "backwards": 1.0, "randomised": True}))
    if wrong:
        run.put(Record(model="mlp", backend="torch", check="validity/certified-misclassified",
                       status="failed", reason="fgsm misclassifies an image"))  # fmt: skip
    return run


MADE_UP = {
    "certified": lambda: [Source(certified())],
    "contradiction": lambda: [Source(certified(range(60)))],
    "everything": lambda: [Source(everything())],
    "failing": lambda: [failing()],
    "bare": lambda: [Source(bare())],
    "own": lambda: [Source(own())],
    "unanswered": lambda: [Source(unanswered())],
    "hostile": lambda: [Source(hostile())],
    "several": lambda: [Source(everything(), "before"), Source(everything(seed=1), "after")],
}
GIVEN = [name for name in os.environ.get("HARNESS_TEST_PAGES", "").split(os.pathsep) if name]


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")

    @cache
    def write(name):
        return (
            render_all(MADE_UP[name](), folder / f"{name}.html") if name in MADE_UP else Path(name)
        )

    return write


@pytest.fixture
def opened(chromium, written):
    """Opens a page; at the end nothing may have been fetched or complained of."""
    contexts, noise = [], []

    def open_page(name, width=1280, **options):
        options.setdefault("color_scheme", "light")
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "request", lambda r: noise.append(r.url) if r.url[:5] not in ("file:", "data:") else 0
        )
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.goto(written(name).resolve().as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert noise == []


every_page = pytest.mark.parametrize("name", [*MADE_UP, *GIVEN])


def shown(page, selector):
    """The text and pictures of what a reader sees of the first match."""
    return page.locator(selector).first.evaluate(
        "e => [...e.querySelectorAll('tr')].filter(r => !r.hidden)"
        ".map(r => [r.innerText, ...[...r.querySelectorAll('img')].map(i => i.src)])"
    )


def move(page, place):
    page.locator(SLIDER).evaluate(
        "(input, place) => { input.value = place; "
        "input.dispatchEvent(new Event('input', { bubbles: true })); }", place
    )  # fmt: skip


def test_one_slider_shows_the_same_digits_at_the_chosen_epsilon(opened):
    page = opened("everything")
    assert page.locator(SLIDER).is_visible()
    assert page.locator("input[type=range]").count() == 1
    before = shown(page, "#examples table.gallery")
    assert [row[0].split("\t")[0].strip() for row in before][:3] == [
        "True class",
        "clean",
        "ε\xa0=\xa00.1",
    ]
    page.locator(SLIDER).press("ArrowRight")
    after = shown(page, "#examples table.gallery")
    assert after[2][0].startswith("ε\xa0=\xa00.2")
    assert [row[1:] for row in (after[0], after[1], after[3])] == [
        row[1:] for row in (before[0], before[1], before[3])
    ], "the clean images and the change stay"
    assert all(old != new for old, new in zip(before[2][1:], after[2][1:], strict=True))
    assert before[2][0] != after[2][0], "predictions and confidences change"
    assert page.locator("#choose output").inner_text() == "0.2"
    page.locator(SLIDER).press("Home")
    assert len(shown(page, "#examples table.gallery")) == len(after) - 1, "clean images stand once"


def test_an_epsilon_of_eight_bits_reads_as_it_was_written(opened):
    page = opened("own")
    page.locator(SLIDER).press("Home")  # clean images, 8/255, 0.05, 0.2
    page.locator(SLIDER).press("ArrowRight")
    assert page.locator("#choose output").inner_text() == "8/255"
    assert page.locator(SLIDER).get_attribute("aria-valuetext") == "epsilon 8/255"
    assert shown(page, "#examples table.gallery")[2][0].startswith("ε\xa0=\xa08/255")
    assert page.locator("th.at").first.text_content() == "ε\xa0=\xa08/255"
    page.locator(SLIDER).press("ArrowRight")
    assert page.locator("#choose output").inner_text() == "0.05"


def test_confusion_matrices_follow_the_slider(opened):
    page = opened("everything")
    run = everything()
    labels = run.arrays["labels"]
    for place, epsilon in enumerate((0.0, 0.05, 0.1, 0.2, 0.3)):
        move(page, place)
        said = run.arrays[f"torch/mlp/fgsm@{epsilon:g}/predictions"]
        counts = np.zeros((3, 3), int)
        np.add.at(counts, (labels, said), 1)
        cells = (
            page.locator("#confusion table.attacked").first.locator("tbody td").all_inner_texts()
        )
        assert cells == [str(count) for count in counts.ravel()]
        caption = page.locator("#confusion table.attacked caption").first.inner_text()
        assert f"FGSM at ε = {epsilon:g}" in caption
        assert f"{100 * (said == labels).mean():.1f}\u202f% correct" in caption


def test_one_model_is_shown_at_a_time_in_all_sections(opened):
    page = opened("everything")
    sections = ["training", "examples", "minimal", "confusion", "classes", "saliency"]

    def seen_of():
        models = "all => all.map(block => JSON.parse(block.dataset.models).join())"
        return [page.locator(f"#{name} .choice:visible").evaluate_all(models) for name in sections]

    assert seen_of() == [["torch · mlp"]] * len(sections)
    page.locator("#choose-model").select_option("keras · mlp")
    assert seen_of() == [["keras · mlp"]] * len(sections)
    shown_by_keras = page.locator("#examples .choice:visible img").first.get_attribute("src")
    assert shown_by_keras != page.locator("#examples img").first.get_attribute("src")


def test_a_view_can_be_sent_by_its_address(opened):
    page = opened("everything")
    assert page.evaluate("location.hash") == ""
    page.locator("#choose-model").select_option("keras · mlp")
    page.locator(SLIDER).press("End")
    page.locator("nav").get_by_text("Confusions").click()
    page.wait_for_function("location.hash.startsWith('#confusion?')")
    address = page.url
    other = opened("everything")
    # From another page, as a reader comes: reloaded, a page goes where it was scrolled to.
    other.goto("about:blank")
    other.goto(address)
    assert other.locator("#choose-model").input_value() == "keras · mlp"
    assert other.locator("#choose output").inner_text() == "0.3"
    assert (
        other.locator("#confusion").evaluate("e => Math.abs(e.getBoundingClientRect().top)") < 200
    )
    assert (
        "FGSM at ε = 0.3" in other.locator("#confusion .choice:visible caption").last.inner_text()
    )
    page.locator("#choose-model").select_option("torch · mlp")
    move(page, 2)
    assert page.evaluate("location.hash") == "#confusion", "what is shown at first needs no words"


def test_a_failure_leads_to_its_evidence_whatever_model_is_shown(opened):
    page = opened("failing")
    link = page.locator("#verdict .concerns a").first
    link.click()
    row = page.locator(link.get_attribute("href"))
    assert row.is_visible()
    assert "failed" in row.inner_text()
    page.evaluate("document.querySelector('#choose-model').value = 'jax · mlp'")


def test_of_saliency_methods_one_is_seen_and_the_others_are_a_click_away(opened):
    page = opened("everything")
    methods = page.locator("#saliency .choice:visible details.method")
    assert methods.count() == len(METHODS) + 1
    opened_ones = "all => all.filter(d => d.open).length"
    assert methods.evaluate_all(opened_ones) == 1
    methods.nth(1).locator("summary").focus()
    page.keyboard.press("Enter")
    assert methods.evaluate_all("all => all.map(d => d.open)") == [False, True, False]
    picture = methods.nth(1).locator("img").first
    assert picture.evaluate("i => i.clientWidth") >= 110
    assert methods.nth(1).locator(".outline").count() == 2 * 4, "the top pixels of four digits"


def test_images_that_were_not_answered_are_counted_at_the_chosen_epsilon(opened):
    page = opened("unanswered")
    said = "#confusion table.attacked caption"
    for place, words in ((0, "correct"), (3, "correct, 2 images not answered and left out")):
        move(page, place)
        assert page.locator(said).first.inner_text().endswith(words)
    assert page.locator("#examples .none").first.inner_text() == "not answered"


def test_a_point_of_a_chart_tells_its_values(opened):
    page = opened("failing")
    (run,) = (source.run for source in MADE_UP["failing"]())
    told = []
    for spot in page.locator("#accuracy svg:not(.key)").first.locator(".spot").all():
        spot.hover()
        assert page.locator(".tip").is_visible()
        told += page.locator(".tip").inner_text().split("\n")
    assert {line.partition(" (")[0] for line in told} >= {
        f"FGSM, ε = {r.epsilon:g}: {100 * r.accuracy:.1f}\u202f%"
        for r in run.records if r.check == "fgsm"
    }  # fmt: skip
    page.locator("h1").hover()
    assert page.locator(".tip").is_hidden()


def test_a_band_tells_its_bounds_by_pointing_and_in_words(opened):
    page = opened("certified")
    run = certified()
    low = run.find(("mlp", "torch", "certified/crown", 0.1)).accuracy
    told = []
    for spot in page.locator("#bounds svg .spot").all():
        spot.hover()
        told += page.locator(".tip").inner_text().split("\n")
    assert any(f"ε = 0.1, certified by CROWN: {100 * low:.1f}\u202f%" in line for line in told)
    gap = page.locator("#bounds .gaps").inner_text()
    assert f"At ε\xa0=\xa00.1 robust accuracy lies between {100 * low:.1f} and " in gap


def test_the_shares_of_images_are_as_wide_as_they_are_many(opened):
    page = opened("certified")
    page.locator("#bounds summary", has_text="Numbers").click()
    row = page.locator("#bounds .outcomes tbody tr").first
    counts = [int(text) for text in row.locator("td.number").all_inner_texts()]
    widths = row.locator(".shares i").evaluate_all("all => all.map(i => i.clientWidth)")
    assert sum(counts) == 60
    assert len(widths) == sum(count > 0 for count in counts)
    shares = sorted(count / 60 for count in counts if count)
    assert sorted(width / sum(widths) for width in widths) == pytest.approx(shares, abs=0.02)


def test_a_contradiction_leads_to_what_the_check_found(opened):
    page = opened("contradiction")
    page.locator("#bounds .contradiction a").click()
    assert page.evaluate("location.hash") == "#verdict"
    assert "certified misclassified" in page.locator("#verdict .concerns").inner_text()


def test_the_numbers_can_be_taken_from_the_page(opened, tmp_path):
    page = opened("everything")
    page.locator("#provenance summary").first.click()
    for name, start in (
        ("measurements.csv", "model,backend,check,epsilon"),
        ("run.json", '{"schema"'),
    ):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(start)


def test_without_javascript_every_epsilon_is_there(opened):
    page = opened("everything", java_script_enabled=False)
    rows = page.locator("#examples table.gallery").first.locator("tr:visible")
    assert rows.count() == 1 + 5 + 1
    assert page.locator("#choose:visible").count() == 0
    assert page.locator("#confusion table.attacked:visible").count() == 1
    page.locator("#confusion summary").nth(1).click()
    assert page.locator("#confusion table.attacked:visible").count() == 2, "both models"


@every_page
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_no_page_is_wider_than_its_window(opened, name, width):
    page = opened(name, width)
    page.evaluate(OPEN)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@every_page
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation(opened, name, theme):
    page = opened(name, color_scheme=theme)
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    for state in ("as it is opened", "with all of it open"):
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        violations = [
            (state, violation["id"], violation["impact"], violation["nodes"][0]["html"][:200],
             len(violation["nodes"]))
            for violation in found["violations"]
        ]  # fmt: skip
        assert violations == []
        assert found["passes"] is not None
        page.evaluate(OPEN)


def test_the_keyboard_alone_reaches_all_that_can_be_used(opened):
    page = opened("failing")
    wanted = page.evaluate("""
        [...document.querySelectorAll('a, select, input, summary, [tabindex="0"]')]
        .filter(e => e.checkVisibility({ contentVisibilityAuto: true, visibilityProperty: true }))
        .map((e, place) => { e.dataset.place = place; return place; })
    """)
    reached = []
    for _ in range(len(wanted) + 5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.dataset.place"))
    assert {str(place) for place in wanted} <= set(reached)


@every_page
def test_no_box_is_empty(opened, name):
    page = opened(name)
    page.evaluate(OPEN)
    empty = page.evaluate(
        "[...document.querySelectorAll("
        "'section, .block, .scroll, figure, tbody, .answers li, .parts')]"
        ".filter(e => !e.innerText.trim() || e.getBoundingClientRect().height < 8)"
        ".map(e => e.outerHTML.slice(0, 200))"
    )
    assert empty == []
    nothing = "[...document.images].filter(i => !i.naturalWidth).map(i => i.alt)"
    assert page.evaluate(nothing) == []


def test_what_looks_like_markup_is_text(opened):
    page = opened("hostile")
    assert HOSTILE in page.locator("h1").inner_text()
    assert HOSTILE in page.locator("#confusion").inner_text()
    assert page.locator("script").count() == 1 + 1, "the page's own, and the counts of the matrices"
    assert page.locator("#choose-model option").first.inner_text() == f"{HOSTILE} · {HOSTILE}"


def test_chapters_of_several_runs_have_anchors_of_their_own(opened):
    page = opened("several")
    links = page.locator("nav a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert len(set(links)) == len(links) > 20
    for link in links:
        assert page.locator(link).count() == 1
    assert page.locator("#run2-examples .gallery").first.is_visible()


def test_a_printed_page_is_what_is_shown_without_what_is_to_be_clicked(opened, tmp_path):
    page = opened("everything")
    path = tmp_path / "page.pdf"
    page.pdf(path=path, format="A4")
    assert len(re.findall(rb"/Type ?/Page\b", path.read_bytes())) <= 10
    page.emulate_media(media="print")
    closed = [f".{name}:not([open])" for name in ("method", "more", "choice")]
    for selector in ("nav", "#choose", ".tip", ".learn", ".how", *closed):
        assert page.locator(f"{selector}:visible").count() == 0, selector
    assert page.locator(".method:visible").count() == 1
    # Whose numbers they are, which the selector says on a screen.
    name = page.locator("#choose-model").evaluate("all => all.selectedOptions[0].textContent")
    assert page.locator("#confusion .choice > summary:visible").inner_text() == name


def test_a_page_is_printed_dark_on_white_whatever_the_screen_is(opened):
    page = opened("everything", color_scheme="dark")
    ink = "getComputedStyle(document.body).color"
    assert page.evaluate(ink) == "rgb(231, 234, 237)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(ink) == "rgb(27, 31, 36)"


def test_a_table_without_reasons_has_no_column_of_them(opened):
    headings = "#expectations thead th"
    assert "Reason" in opened("failing").locator(headings).all_text_contents()
    assert "Reason" not in opened("everything").locator(headings).all_text_contents()


def test_the_file_may_have_any_name(chromium, tmp_path):
    path = render(synthetic_run(), tmp_path / "<script>alert(1)<&script>.html")
    page = chromium.new_page()
    dialogs = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    page.goto(path.as_uri())
    assert page.locator("h1").inner_text() == "toy"
    page.close()
    assert dialogs == []
