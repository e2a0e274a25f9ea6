"""The report's section on saliency, and the small pictures it is made of."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from synthetic import METHODS, synthetic_run
from test_report import Page, html_of, seen, without

from harness.results.records import Record
from harness.results.run import Run
from reports.sections import saliency
from reports.stored import Pair
from reports.tables import measurements
from reports.tiles import GREY, outline, png

TORCH = Pair("torch", "mlp")


def section(run: Run) -> list[saliency.Explained]:
    return saliency.section_of(run, measurements(run), [TORCH], 0.15)


def corners(path: str) -> Iterator[list[tuple[int, int]]]:
    """The corners (row, column) of each loop of a path of M, h, v and z."""
    for loop in path.split("z")[:-1]:
        column, row = map(int, re.match(r"M(\d+) (\d+)", loop).groups())  # type: ignore[union-attr]
        visited = [(row, column)]
        for name, length in re.findall(r"([hv])(-?\d+)", loop):
            row, column = (
                (row + int(length), column) if name == "v" else (row, column + int(length))
            )
            visited.append((row, column))
        yield visited


def inside(path: str, shape: tuple[int, int]) -> np.ndarray:
    """Which pixels a path encloses by the even-odd rule: their crossings to the left are odd."""
    crossings = np.zeros(shape, dtype=int)
    for loop in corners(path):
        for (row, column), (after, beside) in zip(loop, [*loop[1:], loop[0]], strict=True):
            assert row == after or column == beside, "each side runs along the pixels"
            crossings[min(row, after) : max(row, after), column:] += 1
    return crossings % 2 == 1


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_an_outline_encloses_just_its_pixels(mask: np.ndarray) -> None:
    assert (inside(outline(mask), mask.shape) == mask).all()


def test_an_outline_by_hand() -> None:
    assert outline(np.array([[True, True], [False, True]])) == "M0 0h2v2h-1v-1h-1z"
    assert outline(np.zeros((3, 3), dtype=bool)) == ""


def test_a_picture_has_a_pixel_per_number_between_the_limits() -> None:
    uri = png(np.array([[-1.0, 0.0, 0.5], [1.0, 2.0, np.float64(1 / 63)]]), GREY, 0.0, 1.0)
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L")).astype(int)
    assert pixels.tolist()[0][:2] == [0, 0]
    assert pixels.tolist()[1][:2] == [255, 255]
    assert abs(pixels[0, 2] - 128) <= 3
    assert pixels[1, 2] == 4


def test_digits_by_methods_clean_beside_attacked_with_the_top_pixels_outlined() -> None:
    run = synthetic_run(backends=["torch"])
    (found,) = section(run)
    assert found.methods == list(METHODS)
    assert [row.index for row in found.rows] == [3, 5, 8, 13]
    for place, row in enumerate(found.rows):
        assert all(row.images)
        for method, (clean, moved) in zip(METHODS, row.maps, strict=True):
            assert clean is not None
            assert moved is not None
            assert "under FGSM" not in clean.alt
            assert "under FGSM" in moved.alt
            maps = np.abs(run.arrays[f"torch/mlp/examples/maps/{method}"][place])
            marked = inside(clean.outline, (6, 6))
            assert marked.sum() == 5, "15 % of 36 pixels"
            assert maps[marked].min() > maps[~marked].max()


def test_what_fgsm_makes_of_an_example_is_said_beside_what_was_said_before() -> None:
    run = synthetic_run(backends=["torch"])
    run.arrays["torch/mlp/clean/predictions"] = run.arrays["labels"]
    (found,) = section(run)
    for row in found.rows:
        clean, moved = row.images
        assert clean.predicted == row.truth
        assert not clean.wrong
        assert moved is not None
        assert moved.predicted == "0"
        assert moved.wrong == (row.truth != "0")


def test_the_cascade_has_the_correlations_under_its_maps() -> None:
    run = synthetic_run(backends=["torch"])
    (table,) = (rows for rows in seen(run).tables if "Trained" in rows[0])
    assert table[0] == ["Method", "Trained", "Last layer random", "All random"]
    assert [" ".join(cell.split()) for cell in table[1]] == [
        "gradient", "itself", "ρ 0.50 s 0.40", "ρ 0.12 s 0.25",
    ]  # fmt: skip


def test_measures_and_covered_pixels_are_tables() -> None:
    run = synthetic_run(backends=["torch"])
    run.arrays["torch/mlp/saliency/gradient/top/accuracy"] = np.full((2, 5), [[0.25], [0.9]])
    run.arrays["torch/mlp/saliency/gradient/least/accuracy"] = np.full((2, 5), 0.75)
    run.arrays["torch/mlp/saliency/random/accuracy"] = np.full((3, 2, 5), 0.5)
    tables = seen(run).tables
    (measures,) = (rows for rows in tables if "Deletion area" in rows[0])
    assert measures[1] == ["gradient", "0.375", "0.375", "—", "—"]
    (covered,) = (rows for rows in tables if rows[0][1:] and rows[0][1] == "5\u202f%")
    assert covered[1] == ["gradient", *["25.0\u202f% 75.0\u202f%"] * 5]
    assert covered[-1] == ["random", *["50.0\u202f%"] * 5]


def test_sanity_checks_are_rules_by_methods_each_with_what_it_asks() -> None:
    run = synthetic_run(backends=["torch"])
    for check, passes in (
        ("gradient/occlusion", False), ("gradient/finite", True), ("smoothgrad/finite", True),
        ("gradient/of-tomorrow", True),
    ):  # fmt: skip
        record = Record(model="mlp", backend="torch", check=f"saliency-sanity/{check}")
        run.put(record.judged("passed" if passes else "failed"))
    shown = seen(run)
    (table,) = (rows for rows in shown.tables if rows[0] == ["Check", "gradient", "smoothgrad"])
    assert [[" ".join(cell.split()) for cell in row] for row in table[1:]] == [
        ["finite Maps hold neither NaN nor infinity, and none is zero everywhere.",
         "✓ passed", "✓ passed"],
        ["occlusion Covering the most salient pixels costs more accuracy than covering as many "
         "random ones.", "✗ failed", "—"],
        ["of tomorrow", "✓ passed", "—"],
    ]  # fmt: skip
    conformance = [rows for rows in shown.tables if ["bounds", "✓ passed"] in rows]
    assert all(len(rows) == 3 for rows in conformance)


def test_without_methods_the_maps_that_chose_the_pixels_are_shown() -> None:
    run = synthetic_run(backends=["torch"])
    for part in ("/maps/", "examples/moved", "cascade", "saliency/gradient", "saliency/random"):
        without(run, part)
    (found,) = section(run)
    assert found.methods == ["gradient"]
    assert all(moved is None for row in found.rows for _, moved in row.maps)
    assert not found.curves


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("examples/cascade", "with random layers</h3>"),
        ("examples/maps", "Maps by gradient, as they are and under FGSM"),
        ("top/accuracy", "with the most salient pixels covered in black, and"),
        ("examples/index", "Maps by gradient, as they are and under FGSM"),
    ],
)
def test_what_is_not_stored_leaves_no_empty_box(part: str, text: str) -> None:
    run = synthetic_run(backends=["torch"])
    assert text in html_of(run)
    gone = without(run, "examples/saliency") if part == "examples/maps" else run
    html = html_of(without(gone, part))
    assert text not in html
    assert not Page(html).open


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("examples/maps/gradient", np.full((4, 6, 6), np.nan)),
        ("examples/maps/gradient", np.zeros((4, 6, 6, 3))),
        ("examples/moved", np.zeros((4, 2, 2))),
        ("examples/moved/labels", np.full(4, 99)),
        ("examples/cascade/gradient", np.zeros((5, 3, 6, 6))),
        ("examples/cascade/gradient", np.zeros((2, 0, 6, 6))),
        ("saliency/gradient/cascade", np.zeros(3)),
        ("saliency/gradient/deletion", np.full(21, np.nan)),
        ("saliency/random/accuracy/interval", np.full((2, 2, 5), np.nan)),
        ("saliency/gradient/top/accuracy", np.zeros((2, 5), dtype=object)),
    ],
)
def test_arrays_that_do_not_fit_break_nothing(key: str, value: np.ndarray) -> None:
    run = synthetic_run(backends=["torch"])
    run.arrays[f"torch/mlp/{key}"] = value
    assert "provenance" in seen(run).sections
