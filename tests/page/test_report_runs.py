"""A page of several runs, and the sections that hold models against each other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from synthetic import synthetic_run
from test_report import Page, html_of, seen

import reports
from harness.results.records import Record, Timing, counted
from harness.results.run import Run
from reports import agreement, downloads
from reports.formats import points
from reports.page import Source, page
from reports.sections import classes, minimal
from reports.stored import Pair
from reports.tables import measurements

TORCH = Pair("torch", "mlp")


def small(seed: int = 0) -> Run:
    return synthetic_run(backends=["torch"], seed=seed)


def two(**changed: Run) -> Page:
    runs = {"before": small(), "after": small(1)} | changed
    return Page(page([Source(run, name) for name, run in runs.items()]))


def plain(table: list[list[str]]) -> list[list[str]]:
    return [[" ".join(cell.split()) for cell in row] for row in table]


def test_several_runs_have_a_chapter_each_with_ids_of_its_own() -> None:
    shown = two()
    ids = [attributes["id"] for _, attributes in shown.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    names = {"for", "aria-labelledby"}
    wanted = {a[n] for _, a in shown.tags for n in names & set(a)}
    wanted |= {a["href"][1:] for _, a in shown.tags if (a.get("href") or "").startswith("#")}  # type: ignore[index]
    assert wanted <= set(ids)
    for chapter in ("run1-", "run2-"):
        assert {f"{chapter}accuracy", f"{chapter}saliency", f"{chapter}provenance"} <= set(ids)
    assert [text for level, text in shown.headings if level == 1] == ["2 runs side by side"]
    assert not shown.open


def test_names_that_look_like_ids_are_left_as_they_are_in_chapters() -> None:
    name = 'url(#a) href="#b" id="c" for='
    run = synthetic_run(backends=[name], classes=[name, "b"], name=name)
    run.records = [
        r.model_copy(update={"check": r.check.replace("fgsm", name)}) for r in run.records
    ]
    for key in [key for key in run.arrays if "fgsm" in key]:
        run.arrays[key.replace("fgsm", name)] = run.arrays.pop(key)
    html = page([Source(run, "a"), Source(run, "b")])
    shown = Page(html)
    held = [json.loads(script) for script in shown.scripts if script.startswith("{")]
    assert [one["attack"] for one in held] == [name, name]
    assert shown.text.count("run1-") == 0
    labels = [str(a["aria-label"]) for _, a in shown.tags if "aria-label" in a]
    assert any(name in label for label in labels)
    assert not any("run1-" in label for label in labels)


def test_one_run_is_a_page_without_chapters() -> None:
    assert "side by side" not in seen(small()).text
    assert page([Source(small(), "results")]) == html_of(small())


def test_each_run_is_compared_with_the_first() -> None:
    before, after = small(), small()
    before.put(counted("mlp", "torch", "clean", 54, 60))
    after.put(counted("mlp", "torch", "clean", 51, 60))
    before.put(counted("mlp", "torch", "fgsm", 30, 60, 0.1, norm="linf"))
    after.put(counted("mlp", "torch", "fgsm", 33, 60, 0.1, norm="linf"))
    after.put(counted("mlp", "torch", "pgd", 6, 60, 0.1, norm="linf"))
    (table,) = (
        t for t in two(before=before, after=after).tables if t[0] == ["Check", "before", "after"]
    )
    rows = {row[0]: row[1:] for row in plain(table)}
    assert rows["clean"] == ["90.0 %", "85.0 % −5.0"]
    assert rows["FGSM, ε = 0.1"] == ["50.0 %", "55.0 % +5.0"]
    assert rows["PGD, ε = 0.1"] == ["—", "10.0 %"]
    assert list(rows)[:3] == ["Check", "clean", "FGSM, ε = 0"]


def test_runs_of_other_data_say_so() -> None:
    assert "different data" not in two().text
    other = small(1)
    other.data_sha256 = "e" * 64
    assert "different data" in two(after=other).text


def test_a_failed_run_fails_the_page() -> None:
    bad = small(1)
    bad.finished = False
    assert two(after=bad).text.split()[0] == "FAILED"
    assert two().text.split()[:2] == ["EXPECTATIONS", "MET,"]


def test_runs_that_share_no_model_are_still_a_page() -> None:
    shown = two(after=synthetic_run(backends=["numpy"]))
    assert "run2-accuracy" in shown.sections


def test_backends_are_held_against_each_other() -> None:
    run = synthetic_run()
    labels = run.arrays["labels"]
    wrong = (labels + 1) % 3
    run.arrays["torch/mlp/clean/predictions"] = labels
    run.arrays["keras/mlp/clean/predictions"] = np.where(np.arange(60) < 6, wrong, labels)
    run.put(counted("mlp", "torch", "clean", 60, 60))
    run.put(counted("mlp", "keras", "clean", 54, 60))
    run.put(counted("mlp", "torch", "apgd", 6, 60, 0.1, norm="linf"))
    (table,) = (t for t in seen(run).tables if t[0][-1] == "Agreement")
    first = plain(table)[1]
    assert first[0] == "clean"
    assert [cell.split(" %")[0] for cell in first[1:]] == ["100.0", "90.0", "10.0", "90.0"]
    assert not any(row[0].startswith("apgd") for row in table), "measured in one backend only"


def test_accuracy_by_class_is_counted_by_true_class() -> None:
    run = Run(spec={}, spec_sha256="", data_sha256="", created="now", classes=("a", "b", "c"))
    run.arrays["labels"] = np.array([0, 0, 0, 1], dtype=np.int16)
    run.arrays["torch/mlp/clean/predictions"] = np.array([0, 0, 0, 1], dtype=np.int16)
    run.arrays["torch/mlp/fgsm@0.1/predictions"] = np.array([0, 1, 1, 2], dtype=np.int16)
    found = classes.per_class_of(run, TORCH, "fgsm", [0.0, 0.1, 0.2])
    assert found is not None
    assert found.epsilons == [0.0, 0.1]
    assert found.rows == [
        ("a", 3, [1.0, pytest.approx(1 / 3)]), ("b", 1, [1.0, 0.0]), ("c", 0, [None, None]),
    ]  # fmt: skip


def with_extremes(epsilons: np.ndarray) -> Run:
    run = synthetic_run(backends=["torch"])
    begin = "torch/mlp/minimal-epsilon/pgd"
    run.arrays[begin] = epsilons
    run.arrays[f"{begin}/extremes/index"] = np.array([2, 0, 1, 3])
    run.arrays[f"{begin}/extremes/labels"] = np.zeros(4, dtype=np.int16)
    for name in ("clean", "adversarial"):
        run.arrays[f"{begin}/extremes/{name}"] = np.zeros((4, 6, 6), dtype=np.float32)
    return run


def test_the_most_fragile_and_the_most_robust_are_shown_with_their_epsilons() -> None:
    run = with_extremes(np.array([0.2, 0.3, 0.1, np.inf]))
    (found,) = minimal.extremes_of(run, [TORCH])
    assert [(one.index, one.epsilon) for one in found.fragile] == [(2, 0.1), (0, 0.2)]
    assert [(one.index, one.epsilon) for one in found.robust] == [(3, np.inf), (1, 0.3)]
    assert found.robust[0].adversarial is None
    tables = [plain(table) for table in seen(run).tables]
    (fragile,) = (t for t in tables if "ε = 0.100" in t[-1][1])
    assert "ε = 0.200" in fragile[-1][2]
    assert any("never misclassified" in t[-1][1] for t in tables if t[-1][0] == "adversarial")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("index", np.array([2, 0, 1, 60])),
        ("index", np.array([2, 0, 1, 4])),
        ("labels", np.array([0, 0, 0, 9])),
        ("clean", np.zeros((4, 6, 6, 3))),
        ("adversarial", np.zeros((3, 6, 6))),
    ],
)
def test_extremes_that_do_not_fit_are_not_shown(name: str, value: np.ndarray) -> None:
    run = with_extremes(np.array([0.2, 0.3, 0.1, np.inf]))
    run.arrays[f"torch/mlp/minimal-epsilon/pgd/extremes/{name}"] = value
    assert minimal.extremes_of(run, [TORCH]) == []


def test_one_image_alone_is_neither_fragile_nor_robust() -> None:
    run = with_extremes(np.array([0.2, 0.3, 0.1, 0.4]))
    for key in [key for key in run.arrays if "/extremes/" in key]:
        run.arrays[key] = run.arrays[key][:1]
    assert minimal.extremes_of(run, [TORCH]) == []


def test_speed_is_images_at_each_epsilon_a_second() -> None:
    run = synthetic_run(backends=["torch"])
    run.timings = [
        Timing(model="mlp", backend="torch", check="fgsm", images=7000, epsilons=7, seconds=0.5),
        Timing(model="mlp", backend="torch", check="clean", images=10, epsilons=1, seconds=0.0),
    ]
    (table,) = (t for t in seen(run).tables if t[0][0] == "Measurement")
    assert plain(table)[1:] == [["FGSM", "98,000 0.5 s"]]


def test_the_page_carries_the_records_as_csv_and_the_run_as_json(tmp_path: Path) -> None:
    run = synthetic_run()
    run.put(Record(model="mlp", backend="torch", check="pgd", status="error", reason='a, "b"'))
    csv, document = downloads.downloads_of(run, measurements(run))
    assert csv.uri.startswith("data:text/csv;base64,")
    path = tmp_path / "measurements.csv"
    path.write_bytes(_content(csv))
    import pandas as pd

    table = pd.read_csv(path)
    assert len(table) == len(run.records)
    assert table.iloc[-1]["reason"] == 'a, "b"'
    assert (table["accuracy"].dropna() <= 1).all()
    assert Run.model_validate_json(_content(document)).records == run.records
    assert (csv.size, document.size) == (len(_content(csv)), len(_content(document)))


def test_a_run_is_carried_whatever_text_and_numbers_it_holds() -> None:
    run = synthetic_run(backends=["torch"], classes=["half a pair \ud800", "b"])
    run.spec["x"] = [float("nan"), {"y": "\udfff"}]
    _, document = downloads.downloads_of(run, measurements(run))
    held = json.loads(_content(document))
    assert held["classes"] == ["half a pair \ud800", "b"]
    assert held["spec"]["x"] == [None, {"y": "\udfff"}]
    assert "half a pair \\ud800" in page([Source(run)])


def _content(file: downloads.Download) -> bytes:
    import base64

    return base64.b64decode(file.uri.partition(",")[2])


@pytest.mark.parametrize(
    ("change", "text"),
    [(0.0123, "+1.2"), (-0.05, "−5.0"), (0.0004, "0.0"), (-0.0004, "0.0"), (None, "—")],
)
def test_changes_in_points(change: float | None, text: str) -> None:
    assert points(change) == text


def test_points_of_a_chart_that_lie_together_are_told_together() -> None:
    run = synthetic_run()
    run.put(counted("mlp", "torch", "fgsm", 30, 60, 0.1, norm="linf"))
    run.put(counted("mlp", "keras", "fgsm", 31, 60, 0.1, norm="linf"))
    run.put(counted("mlp", "torch", "fgsm", 30, 60, 0.2, norm="linf"))
    run.put(counted("mlp", "keras", "fgsm", 40, 60, 0.2, norm="linf"))
    titles = re.findall(r"<title>([^<]*, ε = 0\.[12]: [^<]*)</title>", html_of(run))
    told = [[line.partition(" (")[0] for line in title.split("\n")] for title in titles]
    assert ["FGSM, ε = 0.1: 50.8\u202f%"] in told, "backends that agree are one line"
    assert ["FGSM, ε = 0.2: 58.3\u202f%"] in told
    run.put(counted("mlp", "torch", "pgd", 30, 60, 0.1, norm="linf"))
    run.put(counted("mlp", "torch", "pgd", 6, 60, 0.2, norm="linf"))
    titles = re.findall(r"<title>([^<]*, ε = 0\.[12]: [^<]*)</title>", html_of(run))
    told = [[line.partition(" (")[0] for line in title.split("\n")] for title in titles]
    assert ["FGSM, ε = 0.1: 50.8\u202f%", "PGD, ε = 0.1: 50.0\u202f%"] in told
    assert ["PGD, ε = 0.2: 10.0\u202f%"] in told


def test_backends_that_do_not_agree_have_lines_and_sentences_of_their_own() -> None:
    run = synthetic_run()
    frame = measurements(run)
    (group,) = agreement.groups_of(frame, [TORCH, Pair("keras", "mlp")])
    assert (group.label, group.backends) == ("mlp", "torch, keras")
    (row,) = agreement.merged(frame[frame["check"] == "clean"], group).itertuples()
    ends = [run.find(("mlp", backend, "clean", None)) for backend in ("torch", "keras")]
    assert row.lowest == min(one.accuracy for one in ends if one)
    assert row.ci_high == max(one.ci_high for one in ends if one)
    run.put(counted("mlp", "keras", "fgsm", 0, 60, 0.1, norm="linf"))
    run.arrays["keras/mlp/fgsm@0.1/predictions"] = (run.arrays["labels"] + 1) % 3
    groups = agreement.groups_of(measurements(run), [TORCH, Pair("keras", "mlp")])
    assert [group.label for group in groups] == ["torch · mlp", "keras · mlp"]
    text = seen(run).text
    assert "torch · mlp is not robust at larger ε: at ε" in text
    assert "keras · mlp is not robust: at ε" in text


def test_render_all_writes_what_page_gives(tmp_path: Path) -> None:
    sources = [Source(small(), "a"), Source(small(1), "b")]
    out = reports.render_all(sources, tmp_path / "page.html")
    assert out.read_text(encoding="utf-8") == page(sources)
