"""Charts as SVG: where things are drawn, in round numbers, and as text that is escaped."""

from __future__ import annotations

import math
import re

import pytest

from reports.svg import Chart, Spot, percent_ticks, round_ticks, stairs


def test_places_by_hand() -> None:
    # 50 to the left, 10 to the right, 28 above, 40 below: a plot of 100 by 50 units.
    chart = Chart((0.0, 2.0), (0.0, 1.0), size=(160.0, 118.0))
    assert [chart.x(value) for value in (0.0, 1.0, 2.0)] == [50.0, 100.0, 150.0]
    assert [chart.y(value) for value in (0.0, 0.5, 1.0)] == [78.0, 53.0, 28.0]
    chart.line([0.0, 1.0, 2.0], [0.0, 0.5, 1.0], "red")
    assert 'd="M50.0 78.0L100.0 53.0L150.0 28.0"' in chart.markup("")


def test_a_line_breaks_where_nothing_was_measured() -> None:
    chart = Chart((0.0, 2.0), (0.0, 1.0), size=(160.0, 118.0))
    chart.line([0.0, 1.0, 1.5, 2.0], [0.0, math.nan, 0.5, math.inf], "red", mark="o")
    html = chart.markup("")
    assert 'd="M50.0 78.0M125.0 53.0"' in html
    assert len(re.findall(r"M\d+\.\d \d+\.\dm-4 0a4 4", html)) == 2


def test_a_band_goes_there_above_and_back_below() -> None:
    chart = Chart((0.0, 2.0), (0.0, 1.0), size=(160.0, 118.0))
    chart.band([0.0, 2.0], [0.0, 0.5], [0.5, 1.0], "red")
    assert 'd="M50.0 53.0L150.0 28.0L150.0 53.0L50.0 78.0z"' in chart.markup("")


def test_spots_that_would_cover_each_other_are_one() -> None:
    chart = Chart((0.0, 1.0), (0.0, 1.0))
    for x, text in ((0.0, "a"), (0.01, "b"), (0.5, "c")):
        chart.spot(Spot(x, 0.5, text))
    assert re.findall("<title>([^<]*)</title>", chart.markup("")) == ["a\nb", "c"]


@pytest.mark.parametrize(
    ("low", "high", "values"),
    [
        (0.0, 0.3, [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]),
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.0, 8.0, [0.0, 2.0, 4.0, 6.0, 8.0]),
        (0.93, 0.98, [0.93, 0.94, 0.95, 0.96, 0.97, 0.98]),
        (5.0, 5.0, [5.0]),
    ],
)
def test_ticks_are_round(low: float, high: float, values: list[float]) -> None:
    assert round_ticks(low, high).values == pytest.approx(values)


def test_epochs_are_whole() -> None:
    assert round_ticks(1.0, 3.0, whole=True).values == [1.0, 2.0, 3.0]
    assert [percent_ticks().text(value) for value in (0.0, 0.25)] == ["0\u202f%", "25\u202f%"]


def test_what_a_run_says_is_text() -> None:
    bad = '<script>&"'
    chart = Chart((0.0, 1.0), (0.0, 1.0), title=bad, axis=bad)
    chart.note(0.5, 0.5, bad)
    chart.spot(Spot(0.5, 0.5, bad))
    html = chart.markup(bad)
    assert "<script" not in html
    assert html.count("&lt;script&gt;&amp;") == 5


def test_stairs_step_before_a_point_or_after_it() -> None:
    points = [(0.0, 1.0), (1.0, 0.5)]
    assert stairs(points, before=True) == [(0.0, 1.0), (0.0, 0.5), (1.0, 0.5)]
    assert stairs(points, before=False) == [(0.0, 1.0), (1.0, 1.0), (1.0, 0.5)]
    assert stairs([], before=True) == []
