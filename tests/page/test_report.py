"""The report: what is on the page, what is not, and that it stands alone."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import synthetic_run

import reports
from harness.results.records import Epoch, ModelInfo, Record, counted
from harness.results.run import Run
from reports import tables
from reports.failures import BELOW
from reports.formats import threshold
from reports.page import Source, page
from reports.section import DOCS
from reports.sections import SECTIONS, examples
from reports.stored import Pair

HOSTILE = "<script>alert('x')</script>\"$\\frac{\x1b & ]]>"
SHOWN = HOSTILE.replace("\x1b", "\\x1b")
"""The same as a page shows it: a terminal that it is copied to should obey nothing."""
VOID = {"meta", "link", "img", "br", "wbr", "input", "hr"}


class Page(HTMLParser):
    """A page taken apart: tags with their attributes, text, headings, and tables as rows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.headings: list[tuple[int, str]] = []
        self.tables: list[list[list[str]]] = []
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")
        elif re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.scripts[-1] += data
        if {"style", "script"} & set(self.open):
            return
        self.text += data
        if {"h1", "h2", "h3"} & set(self.open):
            level, text = self.headings[-1]
            self.headings[-1] = (level, text + data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def sections(self) -> set[str | None]:
        return {attributes["id"] for attributes in self.all("section")}


def html_of(run: Run) -> str:
    return page([Source(run)])


def seen(run: Run) -> Page:
    return Page(html_of(run))


def without(run: Run, part: str) -> Run:
    for key in [key for key in run.arrays if part in key]:
        del run.arrays[key]
    return run


@pytest.fixture(scope="module")
def full() -> str:
    """The page of a run that has everything; not to be changed."""
    return html_of(synthetic_run())


EVERYTHING = {
    "accuracy", "checks", "confusion", "classes", "examples", "saliency", "training",
    "speed", "backends", "provenance",
}  # fmt: skip
ALONE = EVERYTHING - {"backends"}
"""The sections of a run of one backend."""


def test_a_full_run_has_every_section_and_says_that_its_expectations_were_met(
    tmp_path: Path,
) -> None:
    run = synthetic_run()
    out = reports.render(run, tmp_path / "new" / "report.html")
    shown = Page(out.read_text(encoding="utf-8"))
    assert shown.sections == EVERYTHING
    assert "<title>EXPECTATIONS MET, NOT ROBUST · toy" in out.read_text(encoding="utf-8")
    assert "All 16 expectations met." in shown.text
    assert "FAILED" not in shown.text
    assert not shown.open


def test_rendering_twice_works_and_gives_the_same_bytes(tmp_path: Path) -> None:
    # The run is made anew, so that no order of a dictionary or counter of ids carries over.
    first = reports.render(synthetic_run(), tmp_path / "a.html").read_bytes()
    assert reports.render(synthetic_run(), tmp_path / "b.html").read_bytes() == first


def test_a_stored_run_gives_the_same_page(tmp_path: Path) -> None:
    run = synthetic_run()
    run.save(tmp_path)
    assert html_of(Run.load(tmp_path)) == html_of(run)


def test_hostile_names_are_shown_as_text() -> None:
    run = synthetic_run(backends=[HOSTILE], models=[HOSTILE], classes=[HOSTILE, "b"], name=HOSTILE)
    run.versions = {HOSTILE: HOSTILE}
    run.put(Record(model=HOSTILE, backend=HOSTILE, check=HOSTILE, status="error", reason=HOSTILE))
    run.put(counted(HOSTILE, HOSTILE, HOSTILE, 1, 2, epsilon=0.1, norm="linf"))
    html = html_of(run)
    shown = Page(html)
    assert "<script>alert" not in html
    assert "alert(" not in "".join(shown.scripts)
    assert SHOWN in shown.text
    assert any(SHOWN in (image["alt"] or "") for image in shown.all("img"))
    charts = [svg["aria-label"] or "" for svg in shown.all("svg") if svg.get("role") == "img"]
    assert len(charts) == 7
    assert all(SHOWN in label for label in charts)


def test_nothing_is_loaded_from_elsewhere(full: str) -> None:
    # Links to the documentation are followed by a reader alone, and images may hold any letters in
    # their base64.
    documentation = DOCS.partition("{")[0]
    rest = re.sub(r"data:[^\"]*", "", full.replace(f'href="{documentation}', 'href="'))
    assert not re.search(r"https?:|//[a-z]|@import", rest)
    shown = Page(full)
    for _, attributes in shown.tags:
        for name in ("src", "href", "action", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:", documentation))
        for target in re.findall(r"url\((.*?)\)", " ".join(v or "" for v in attributes.values())):
            assert target.startswith("#")
    assert not {"iframe", "object"} & {tag for tag, _ in shown.tags}


def test_what_is_this_leads_to_pages_that_the_documentation_has(full: str) -> None:
    root = Path(__file__).parent.parent.parent
    pages = [section.learn for section in SECTIONS.own.values() if section.learn]
    assert len(pages) > 8
    assert all((root / "docs" / f"{name}.md").is_file() for name in pages)
    assert DOCS.partition("/docs/")[0] in (root / "pyproject.toml").read_text(encoding="utf-8")
    assert full.count("What is this?") == full.count(f'href="{DOCS.partition("{")[0]}')


def test_only_the_script_of_the_page_may_run(full: str) -> None:
    shown = Page(full)
    *data, (script, attributes) = zip(shown.scripts, shown.all("script"), strict=True)
    assert attributes == {}
    assert all(
        attributes == {"type": "application/json", "class": "matrices-by-epsilon"}
        for _, attributes in data
    )
    (policy,) = (str(m["content"]) for m in shown.all("meta") if "http-equiv" in m)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert not any(name.startswith("on") for _, attributes in shown.tags for name in attributes)


def test_ids_are_unique_and_every_reference_finds_its_id(full: str) -> None:
    shown = Page(full)
    ids = [attributes["id"] for _, attributes in shown.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {a["href"] for _, a in shown.tags if (a.get("href") or "").startswith("#")}
    assert len(links) > 10
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_headings_rise_by_one_level_and_begin_with_one_title(full: str) -> None:
    levels = [level for level, _ in Page(full).headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_images_charts_and_tables_are_accessible(full: str) -> None:
    shown = Page(full)
    gallery_tiles, maps, cascade = 4 * (1 + 4 + 1), 4 * (2 + 2 * 2), 2 * 3
    assert len(shown.all("img")) == 2 * (gallery_tiles + maps + cascade)
    assert all(image["alt"] for image in shown.all("img"))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in shown.all("svg"))
    assert all(th["scope"] for th in shown.all("th"))
    assert len(shown.all("caption")) == len(shown.all("table"))


def test_charts_take_their_colours_from_the_theme(full: str) -> None:
    charts = re.findall(r"<svg(?![^>]*aria-hidden).*?</svg>", full, flags=re.S)
    assert charts
    assert not [colour for chart in charts for colour in re.findall(r"#[0-9a-f]{6}\b", chart)]
    assert not any("<style" in chart for chart in charts)


def test_failed_broken_and_skipped_checks_come_with_their_reasons() -> None:
    run = synthetic_run(backends=["torch"])
    clean = counted("mlp", "torch", "clean", 30, 60)
    run.put(clean.judged("failed", "too low", (0.99, None)))
    run.put(Record(model="mlp", backend="torch", check="pgd", epsilon=0.1, status="error",
                   reason="it broke"))  # fmt: skip
    for check in ("clean", "fgsm", "pgd", "saliency/top"):
        run.put(Record(model="mlp", backend="jax", check=check, status="skipped",
                       reason="not installed"))  # fmt: skip
    text = seen(run).text
    top = " ".join(text[: text.index("How to read it")].split())
    said = (BELOW, "clean: 50.0 %, expected ≥ 99 % (mlp: torch)", "it broke",
            "PGD ε = 0.1 (mlp: torch)", "4 checks skipped", "not installed")  # fmt: skip
    places = [top.index(words) for words in said]
    assert places == sorted(places)
    assert top.count("not installed") == 1, "one reason is told once"
    assert "2 of 9 expectations not met." in top


def test_records_that_share_a_key_break_nothing() -> None:
    run = Run(spec={}, spec_sha256="", data_sha256="", created="", finished=True)
    once = counted("mlp", "torch", "clean", 50, 60).judged("passed")
    run.records = [once, once.judged("measured")]
    assert "Judged checks passed." in Page(html_of(run)).text


def test_a_run_that_did_not_finish_says_so() -> None:
    run = synthetic_run()
    run.finished = False
    text = seen(run).text
    assert "FAILED" in text
    assert "did not finish" in text


def test_an_empty_run_is_a_page_with_a_failed_verdict() -> None:
    run = Run(spec={}, spec_sha256="", data_sha256="", created="now")
    shown = seen(run)
    assert shown.sections == {"provenance"}
    assert "No check was recorded." in shown.text
    assert "This run holds nothing for: training, accuracy under attack, example" in shown.text


def test_the_dataset_and_its_split_are_named() -> None:
    data = {"name": "a<b", "split": "70-20-10", "seed": 3}
    run = Run(spec={"data": data}, spec_sha256="", data_sha256="c0ffee", created="now")
    named = "<dt>data</dt><dd>a&lt;b 70-20-10 <code>c0ffee</code></dd>"
    assert named in html_of(run)
    data = {"split": "70-20-10", "seed": 3, "file": "own.npz"}  # images of one's own are not split
    run = Run(spec={"data": data}, spec_sha256="", data_sha256="c0ffee", created="now")
    assert "<dt>data</dt><dd>own.npz <code>c0ffee</code></dd>" in html_of(run)
    run = Run(spec={}, spec_sha256="", data_sha256="c0ffee", created="now")
    assert "<dt>data</dt><dd><code>c0ffee</code></dd>" in html_of(run)


@pytest.mark.parametrize(
    ("part", "lost"),
    [
        ("labels", {"confusion", "classes", "examples"}),
        ("predictions", {"confusion", "classes"}),
        ("examples/index", {"examples"}),
        ("examples/clean", {"examples"}),
        ("examples/fgsm", set()),
        ("examples/saliency", set()),
        ("saliency/top", set()),
        ("confidence", set()),
        ("", {"confusion", "classes", "examples"}),
    ],
)
def test_absent_arrays_cost_only_what_needs_them(part: str, lost: set[str]) -> None:
    run = synthetic_run(backends=["torch"])
    assert seen(without(run, part)).sections == ALONE - lost


def test_a_backend_without_arrays_leaves_the_other_its_sections() -> None:
    assert seen(without(synthetic_run(), "torch/")).sections == EVERYTHING


def test_sections_without_records_are_left_out() -> None:
    run = synthetic_run()
    run.records = [record for record in run.records if record.check == "fgsm"]
    run.models, run.timings = [], []
    shown = seen(without(without(run, "examples"), "saliency"))
    assert shown.sections == {
        "accuracy", "checks", "confusion", "classes", "backends", "provenance",
    }  # fmt: skip
    assert all(heading for _, heading in shown.headings)


def test_an_attack_that_only_broke_leaves_the_page_whole() -> None:
    run = synthetic_run(backends=["torch"])
    run.records = [
        Record(model=r.model, backend=r.backend, check=r.check, epsilon=r.epsilon, status="error")
        if r.check == "fgsm" else r
        for r in run.records
    ]  # fmt: skip
    shown = seen(run)
    assert "accuracy" not in shown.sections
    assert "No reason was recorded." in shown.text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels", np.array([0.5, 1.5])),
        ("labels", np.array([], dtype=np.int16)),
        ("labels", np.array([99, -1], dtype=np.int16)),
        ("torch/mlp/clean/predictions", np.zeros(3, dtype=np.int16)),
        ("torch/mlp/clean/predictions", np.full(60, 99, dtype=np.int16)),
        ("torch/mlp/examples/index", np.array([1, 2, 3, 10**6])),
        ("torch/mlp/examples/clean", np.zeros((4, 6, 6, 3))),
        ("torch/mlp/examples/clean", np.full((4, 6, 6), np.nan)),
        ("torch/mlp/examples/clean", np.zeros(())),
        ("torch/mlp/examples/fgsm@0.1", np.zeros((4, 2, 2))),
        ("torch/mlp/examples/saliency", np.zeros((4, 6, 6))),
        ("torch/mlp/examples/saliency/top", np.array(["text"] * 4)),
        ("torch/mlp/examples/clean/confidence", np.zeros(9)),
    ],
)
def test_arrays_that_do_not_fit_break_nothing(key: str, value: np.ndarray[Any, Any]) -> None:
    run = synthetic_run(backends=["torch"])
    run.arrays[key] = value
    assert "provenance" in seen(run).sections


@pytest.mark.parametrize(
    ("said", "words"),
    [({}, "ranked by gradient of the true class"),
     ({"occlusion": "gradient-x-input"}, "ranked by gradient × input of the true class")],
)  # fmt: skip
def test_the_page_says_by_which_maps_pixels_were_occluded(said: dict[str, Any], words: str) -> None:
    run = synthetic_run(backends=["torch"])
    run.spec = {**run.spec, "saliency": said}
    assert words in seen(run).text


@pytest.mark.parametrize(
    ("said", "words"),
    [({}, "covered in black"), ({"cover": "black"}, "covered in black"),
     ({"cover": "blurred"}, "blurred"), ({"cover": 3}, "covered in black")],
)  # fmt: skip
def test_the_page_says_what_covered_the_pixels(said: dict[str, Any], words: str) -> None:
    run = synthetic_run(backends=["torch"])
    run.spec = {**run.spec, "saliency": {**run.spec["saliency"], **said}}
    text = seen(run).text
    assert (
        f"Accuracy with pixels {words}, 15\N{NARROW NO-BREAK SPACE}% of each image, ranked by"
        in text
    )
    assert f"Accuracy with the most salient pixels {words}, and with the least" in text
    assert ("But deletion blackens pixels" in text) == (words == "blurred")


@pytest.mark.parametrize("spec", [{"name": None}, {"saliency": 3}, {"saliency": {"top": "x"}}])
def test_a_spec_of_another_shape_breaks_nothing(spec: dict[str, Any]) -> None:
    run = synthetic_run(backends=["torch"])
    run.spec = spec
    assert seen(run).sections == ALONE


def test_a_training_that_diverged_is_still_drawn() -> None:
    run = synthetic_run(backends=["torch"])
    lost = Epoch(epoch=1, loss=float("inf"), accuracy=0.1, validation_loss=float("nan"),
                 validation_accuracy=0.1, learning_rate=1.0, seconds=1.0)  # fmt: skip
    run.models = [ModelInfo(model="mlp", backend="torch", fingerprint="f", cached=True,
                            best_epoch=0, history=(lost,))]  # fmt: skip
    shown = seen(run)
    assert "training" in shown.sections
    assert "loaded from the cache" in shown.text
    assert "1 epoch in 1.0 s;" in shown.text


@pytest.mark.parametrize("certified", [None, 0.9])
def test_a_certified_training_has_a_curve_of_what_was_certified(certified: float | None) -> None:
    run = synthetic_run(backends=["torch"])
    history = tuple(
        Epoch(epoch=number, loss=1.0, accuracy=0.9, validation_loss=1.0, validation_accuracy=0.95,
              learning_rate=1.0, seconds=1.0, certified_accuracy=certified)
        for number in (1, 2)
    )  # fmt: skip
    run.models = [ModelInfo(model="mlp", backend="torch", fingerprint="f", best_epoch=2,
                            history=history)]  # fmt: skip
    training = page([Source(run)]).partition('id="training"')[2].partition("</section>")[0]
    assert ("validation, certified by intervals" in training) == (certified is not None)
    # Of the legend, and of the line and its marks.
    assert ("var(--series-5)" in training) == (certified is not None)


def test_the_page_shows_clean_and_attacked_matrices_side_by_side() -> None:
    run = synthetic_run(backends=["torch"])
    labels = run.arrays["labels"]
    run.arrays["torch/mlp/clean/predictions"] = labels
    run.arrays["torch/mlp/fgsm@0.1/predictions"] = np.zeros_like(labels)
    counts = np.bincount(labels, minlength=3).tolist()
    clean, attacked = (t for t in seen(run).tables if t[0] == ["True class", "0", "1", "2"])
    assert [row[1:] for row in clean[1:]] == [
        [str(counts[0]), "0", "0"], ["0", str(counts[1]), "0"], ["0", "0", str(counts[2])],
    ]  # fmt: skip
    assert [row[1:] for row in attacked[1:]] == [[str(count), "0", "0"] for count in counts]


def test_wrong_predictions_are_marked_in_words_and_signs() -> None:
    run = synthetic_run(backends=["torch"])
    labels = run.arrays["labels"]
    run.arrays["torch/mlp/clean/predictions"] = labels
    run.arrays["torch/mlp/fgsm@0.3/predictions"] = ((labels + 1) % 3).astype(np.int16)
    shown = examples.gallery_of(run, Pair("torch", "mlp"), "fgsm", [0.0, 0.05, 0.1, 0.2, 0.3])
    assert shown is not None
    assert [epsilon for epsilon, _ in shown.rows] == [0.0, 0.05, 0.1, 0.2, 0.3]
    assert [digit.index for digit in shown.digits] == [3, 5, 8, 13]
    for digit, clean, attacked in zip(
        shown.digits, shown.rows[0][1], shown.rows[-1][1], strict=True
    ):
        assert not clean.wrong
        assert clean.alt.endswith(f"predicted {digit.truth}, correct")
        assert attacked.wrong
        assert attacked.alt.endswith("misclassified")
    assert all("change by fgsm at ε = 0.3" in tile.alt for tile in shown.change)


def linf(check: str, *epsilons: float) -> list[Record]:
    return [counted("mlp", "torch", check, 5, 10, epsilon, norm="linf") for epsilon in epsilons]


@pytest.mark.parametrize(
    ("records", "epsilon"),
    [
        (linf("fgsm", 0.0, 0.1, 0.2, 0.3), 0.2),
        (linf("fgsm", 0.1, 0.2, 0.3, 0.4), 0.2),
        (linf("fgsm", 0.1, 0.2, 0.3) + linf("pgd", 0.1), 0.1),
        ([*linf("fgsm", 0.1, 0.3), counted("mlp", "torch", "l2", 5, 10, 0.3, norm="l2")], 0.1),
        ([counted("mlp", "torch", "pgd-l2", 5, 10, e, norm="l2") for e in (0.0, 1.0, 2.0)], 1.0),
        (linf("fgsm", 0.0), None),
    ],
)
def test_the_headline_is_where_the_most_attacks_were_measured(
    records: list[Record], epsilon: float | None
) -> None:
    run = Run(spec={}, spec_sha256="", data_sha256="", created="now", records=records)
    assert tables.headline_epsilon(tables.measurements(run)) == epsilon


def test_l2_attacks_alone_have_key_figures_and_matrices_too() -> None:
    run = without(synthetic_run(backends=["torch"]), "fgsm@0.1/predictions")
    run.records = [r.model_copy(update={"norm": r.norm and "l2"}) for r in run.records]
    html = html_of(run)
    assert "under all L2 attacks of this run together" in html
    # What the run does not hold at the headline is shown at the smallest epsilon that it holds.
    assert "FGSM at ε = 0.05" in html.replace("fgsm at", "FGSM at")
    assert '"epsilons": ["0", "0.05", "0.2", "0.3"]' in html


def test_a_failure_leads_to_its_evidence() -> None:
    run = synthetic_run()
    for backend, correct in (("torch", 30), ("keras", 31)):
        low = counted("mlp", backend, "fgsm", correct, 60, 0.1, norm="linf")
        run.put(low.judged("failed", "too low", (0.6, None)))
    run.put(Record(model="mlp", backend="torch", check="validity/constant", status="failed",
                   reason="all the same"))  # fmt: skip
    html = html_of(run)
    head = html.partition("</header>")[0]
    assert "The accuracies cannot be trusted yet: 1 check of validity failed." in head
    (anchor,) = re.findall(r'<a href="#(record-\d+)">FGSM ε = 0.1</a>: <b>50.0–51.7', head)
    assert re.search(rf'<tr id="{anchor}">\s*<th scope="row">FGSM ε = 0.1</th>', html)
    (anchor,) = re.findall(r'<a href="#(record-\d+)">constant</a>', head)
    assert f'<td id="{anchor}"><span class="badge failed">' in html
    suites = re.findall(r'class="block suite" id="(\w+)"( open)?>', html)
    assert [name for name, is_open in suites if is_open] == ["expectations", "validity"]
    assert len(suites) == 3


@pytest.mark.parametrize(
    ("bounds", "text"),
    [((0.95, 1.0), "95–100"), ((None, 0.3), "≤ 30"), ((0.9, None), "≥ 90"), (None, "—")],
)
def test_thresholds_in_words(bounds: tuple[float | None, float | None], text: str) -> None:
    assert threshold(bounds).removesuffix("\u202f%") == text


def test_a_failure_while_rendering_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report.html"
    out.write_text("old")
    run = synthetic_run()
    with monkeypatch.context() as patch:
        patch.setattr("reports.page.page", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            reports.render(run, out)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda self, target: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            reports.render(run, out)
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_rendering_imports_no_framework_and_no_pyplot(tmp_path: Path) -> None:
    synthetic_run(backends=["torch"]).save(tmp_path)
    code = (
        "import sys; from pathlib import Path; import reports\n"
        "from harness.results.run import Run\n"
        "early = {'matplotlib', 'jinja2', 'sklearn'} & set(sys.modules)\n"
        "reports.render(Run.load(Path(sys.argv[1])), Path(sys.argv[1]) / 'report.html')\n"
        "names = {'torch', 'tensorflow', 'keras', 'jax', 'matplotlib.pyplot', 'backends'}\n"
        "sys.exit(str(early or names & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.stderr.strip() == ""
    assert (tmp_path / "report.html").stat().st_size > 10_000


def with_a_ladder() -> Run:
    """Two Linf attacks and one in L2, on some of the images."""
    run = synthetic_run(backends=["torch"])
    for check, correct, norm in (("pgd", 20, "linf"), ("apgd", 12, "linf"), ("pgd-l2", 9, "l2")):
        run.put(counted("mlp", "torch", check, correct, 60, 0.1, norm=norm))
    return run


def test_the_ladder_marks_the_strongest_attack_at_each_epsilon() -> None:
    shown = seen(with_a_ladder())
    assert "upper bound" in shown.text
    by_norm = [rows for rows in shown.tables if rows[0][0] == "Attack"]
    assert [[row[0] for row in rows] for rows in by_norm] == [
        ["Attack", "FGSM", "PGD", "APGD"],
        ["Attack", "PGD L2"],
    ]
    marked = [attributes for tag, attributes in shown.tags
              if tag == "td" and "lowest" in str(attributes.get("class"))]  # fmt: skip
    # FGSM alone at the other epsilons above zero, APGD and the one L2 attack at 0.1.
    above_zero = {r.epsilon for r in synthetic_run().records if r.epsilon}
    assert len(marked) == len(above_zero) - 1 + 2


def test_a_targeted_attack_tells_how_many_images_are_taken_for_their_target() -> None:
    run = synthetic_run(backends=["torch"])
    record = counted("mlp", "torch", "pgd-next", 30, 60, 0.1, norm="linf")
    run.put(record.model_copy(update={"value": 0.25}))
    cells = [" ".join(cell.split()) for rows in seen(run).tables for row in rows for cell in row]
    assert "50.0 % 37.7–62.3, targeted success 25.0 %" in cells


def test_smallest_epsilons_have_a_chart_and_their_quantiles() -> None:
    run = synthetic_run(backends=["torch"])
    run.arrays["torch/mlp/minimal-epsilon/fgsm"] = np.array([0.0, 0.1, 0.2, 0.3, np.inf])
    shown = seen(run)
    (table,) = (rows for rows in shown.tables if "median" in rows[0])
    assert table[1] == ["torch · mlp", "5", "0.000", "0.100", "0.200", "0.300", "0.300"]
    run.arrays["torch/mlp/minimal-epsilon/fgsm"] = np.array([0.5, np.inf, np.inf])
    assert "never" in seen(run).text


@pytest.mark.parametrize("broken", [np.zeros(0), np.array([np.nan]), np.array([-1.0]), np.eye(2)])
def test_smallest_epsilons_that_cannot_be_are_not_shown(broken: np.ndarray[Any, Any]) -> None:
    run = synthetic_run(backends=["torch"])
    run.arrays["torch/mlp/minimal-epsilon/pgd"] = broken
    assert "minimal" not in seen(run).sections


def test_validity_checks_have_a_table_of_their_own() -> None:
    run = synthetic_run(backends=["torch"])
    run.put(Record(model="mlp", backend="torch", check="validity/constant", status="passed"))
    run.put(Record(model="mlp", backend="torch", check="validity/probabilities", status="skipped",
                   reason="no logits"))  # fmt: skip
    shown = seen(run)
    assert "Validity: 1 of 1 passed, 1 skipped" in shown.text
    (table,) = (rows for rows in shown.tables if rows[1:2] and rows[1][0].startswith("constant"))
    assert [row[0].partition("\n")[0].split()[0] for row in table] == [
        "Check", "constant", "probabilities",
    ]  # fmt: skip
    assert "same label" in table[1][0]
