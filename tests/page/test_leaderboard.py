"""The leaderboard: who is compared with whom, in which order, and what is on its page."""

from __future__ import annotations

import re

import numpy as np
import pytest
from synthetic import synthetic_run
from test_report import Page

from harness import cli_report
from harness.errors import HarnessError
from harness.results.records import counted
from harness.results.run import Run
from reports import leaderboard, room
from reports.leaderboard import Entrant
from reports.ranking import contests


def run_of(right, data="d" * 64, model="mlp", norm="linf", images=1000):
    """A run of one model whose numbers of images that are left are given by attack and ε."""
    run = Run(spec={"name": "toy"}, spec_sha256="5" * 64, data_sha256=data, created="2026-01-01",
              finished=True)  # fmt: skip
    run.put(counted(model, "torch", "clean", images - 10, images))
    for (attack, epsilon), left in right.items():
        check = f"certified/{attack}" if attack == "crown" else attack
        run.put(counted(model, "torch", check, left, images, epsilon, norm=norm))
    return run


def with_outcomes(run, wrong, images):
    """Add which images each attack misclassifies, by their positions."""
    run.arrays["labels"] = np.zeros(images, np.int32)
    for check, places in {"clean": [], **wrong}.items():
        found = np.zeros(images, np.int32)
        found[places] = 1
        run.arrays[f"torch/mlp/{check}/predictions"] = found
    return run


def only(*runs):
    (contest,) = contests([Entrant(run, f"run-{at}") for at, run in enumerate(runs)])
    return contest


def told(board):
    return [(one.rank, one.entry.name, round(one.worst.accuracy, 4)) for one in board.places]


def test_the_worst_is_counted_image_by_image_over_all_attacks():
    run = run_of({("fgsm", 0.1): 7, ("pgd", 0.1): 7}, images=10)
    run.classes = ("0", "1")
    with_outcomes(run, {"fgsm@0.1": [0, 1, 2], "pgd@0.1": [2, 3, 4]}, 10)
    (place,) = only(run).headline.places
    # Five of ten images fall to one of the two, which leave seven each.
    assert place.worst.accuracy == 0.5
    assert place.entry.attacks[0.1] == [("fgsm", 0.7), ("pgd", 0.7)]


def test_without_outcomes_the_lowest_accuracy_counts():
    (place,) = only(run_of({("fgsm", 0.1): 700, ("pgd", 0.1): 600})).headline.places
    assert place.worst.accuracy == 0.6


def test_overlapping_intervals_share_a_rank_and_the_next_is_counted_on():
    # Of 1,000 images an interval reaches about 3 points to each side.
    lefts = (500, 800, 520, 790, 100)
    contest = only(*(run_of({("pgd", 0.1): left}) for left in lefts))
    assert told(contest.headline) == [
        (1, "run-1", 0.8), (1, "run-3", 0.79), (3, "run-2", 0.52), (3, "run-0", 0.5),
        (5, "run-4", 0.1),
    ]  # fmt: skip


def test_a_rank_does_not_grow_by_a_chain_of_overlaps():
    # 50 overlaps 47, and 47 overlaps 43.5, but 43.5 does not overlap 50: it begins a rank.
    contest = only(*(run_of({("pgd", 0.1): left}) for left in (500, 470, 435)))
    assert [rank for rank, _, _ in told(contest.headline)] == [1, 1, 3]


def test_only_what_shares_data_norm_and_epsilon_is_compared():
    found = contests([
        Entrant(run_of({("pgd", 0.1): 500, ("pgd", 0.2): 300}), "a"),
        Entrant(run_of({("pgd", 0.1): 400}), "b"),
        Entrant(run_of({("pgd", 0.1): 400}, data="e" * 64), "other data"),
        Entrant(run_of({("pgd-l2", 1.0): 400}, norm="l2"), "other norm"),
    ])  # fmt: skip
    assert [[entry.name for entry in one.entries] for one in found] == [
        ["a", "b"], ["other norm"], ["other data"],
    ]  # fmt: skip
    first = found[0]
    assert first.headline.epsilon == 0.1  # which both have
    assert [(b.epsilon, len(b.places)) for b in first.boards] == [(0.1, 2), (0.2, 1)]


def test_images_without_a_hash_are_compared_with_nobody_s():
    runs = [Entrant(run_of({("pgd", 0.1): 400}, data=""), name) for name in "ab"]
    assert len(contests(runs)) == 2


def test_certified_accuracy_stands_beside_the_worst():
    contest = only(run_of({("pgd", 0.1): 500, ("crown", 0.1): 200}), run_of({("pgd", 0.1): 400}))
    certified = [place.certified and place.certified.accuracy for place in contest.headline.places]
    assert certified == [0.2, None]
    assert contest.headline.certified


# The page


def page_of(*runs):
    return Page(leaderboard.page([Entrant(run, f"run-{at}") for at, run in enumerate(runs)]))


def heads(shown):
    return [" ".join(cell.split()) for cell in shown.tables[0][0]]


def test_a_column_that_would_be_empty_is_not_there():
    several = [run_of({("pgd", 0.1): left}) for left in (500, 100)]
    assert heads(page_of(*several))[:5] == [
        "Rank", "Model and run", "Clean", "Worst", "Points to the best",
    ]  # fmt: skip
    assert "Points to the best" not in heads(page_of(several[0]))
    proved = run_of({("pgd", 0.1): 500, ("crown", 0.1): 200})
    assert "Certified" in heads(page_of(proved, *several))
    bare = several[0].emptied()
    bare.put(counted("mlp", "torch", "pgd", 5, 10, 0.1, norm="linf"))
    assert "Clean" not in heads(page_of(bare))


def test_a_row_says_rank_name_accuracies_and_difference():
    shown = page_of(run_of({("pgd", 0.1): 500}), run_of({("pgd", 0.1): 100}))
    rows = [[" ".join(cell.split()) for cell in row[:5]] for row in shown.tables[0][1:]]
    # 95 % Wilson intervals of 500 and 100 of 1,000.
    assert rows[0] == ["1", "torch · mlp run-0", "99.0 %", "50.0 % 46.9–53.1", "0.0"]
    assert rows[1] == ["2", "torch · mlp run-1", "99.0 %", "10.0 % 8.3–12.0", "−40.0"]


def test_the_page_needs_nothing_beside_it_and_ids_are_its_own():
    html = leaderboard.page([Entrant(synthetic_run(seed=at), f"run-{at}") for at in range(3)])
    shown = Page(html)
    assert not shown.open
    ids = [attributes["id"] for _, attributes in shown.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = {a["for"] for _, a in shown.tags if "for" in a}
    assert wanted <= set(ids)
    assert not re.search(r'(src|href)="(?!#|data:)', html)
    assert html == leaderboard.page(
        [Entrant(synthetic_run(seed=at), f"run-{at}") for at in range(3)]
    )


def test_the_best_six_are_drawn_at_first():
    shown = page_of(*(run_of({("pgd", 0.1): 100 * left}) for left in range(8)))
    boxes = {a["id"]: "checked" in a for _, a in shown.tags if a.get("type") == "checkbox"}
    assert boxes == {f"curve-1-{number}": number >= 2 for number in range(8)}


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x>', "a\x1b[31m"])
def test_names_are_shown_as_they_are(name):
    run = run_of({("pgd", 0.1): 500}, model=name)
    html = leaderboard.page([Entrant(run, name), Entrant(run_of({("pgd", 0.1): 5}), "b")])
    assert "<script>alert" not in html
    assert "<img" not in html
    assert "\x1b" not in html


def test_twenty_runs_take_three_megabytes_at_most():
    runs = [
        Entrant(synthetic_run(models=["mlp", "cnn"], seed=at, name="n" * 60), f"run-{at}")
        for at in range(20)
    ]
    assert room.size(leaderboard.page(runs)) <= room.ONE


def test_a_page_without_room_has_fewer_details(monkeypatch):
    runs = [Entrant(synthetic_run(seed=at), f"run-{at}") for at in range(3)]
    whole = leaderboard.page(runs)
    monkeypatch.setattr(room, "ONE", room.size(whole) - 1)
    less = leaderboard.page(runs)
    assert whole.count('<details class="more">') > less.count('<details class="more">') == 3
    monkeypatch.setattr(room, "ONE", room.size(less) - 1)
    least = leaderboard.page(runs)
    assert (least.count("<table"), "no room for the tables" in least) == (1, True)


def test_what_cannot_be_ranked_is_said_in_one_line():
    with pytest.raises(HarnessError, match="nothing can be ranked"):
        leaderboard.page([Entrant(run_of({}), "a")])
    with pytest.raises(HarnessError, match="50 at most"):
        leaderboard.page([Entrant(run_of({}), str(at)) for at in range(51)])


def test_the_command_writes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        run_of({("pgd", 0.1): 500}).save(tmp_path / name)
    folders = [tmp_path / "a", tmp_path / "b"]
    assert cli_report.report(folders, leaderboard=True) == 0
    assert capsys.readouterr().out == f"leaderboard: {tmp_path / 'leaderboard.html'}\n"
    assert "2 runs, 2 models" in (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    with pytest.raises(HarnessError, match="no baseline"):
        cli_report.report(folders, leaderboard=True, baseline=tmp_path)
    with pytest.raises(HarnessError, match="named twice"):
        cli_report.report(folders[:1] * 2, leaderboard=True)
