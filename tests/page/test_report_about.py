"""The head of a run: what the model and the data are, what to know of them, and the verdict."""

import re

from synthetic import synthetic_run
from test_report import Page

from harness.results.records import DataInfo, ModelInfo, Record, counted
from harness.results.run import Run
from harness.results.summary import note_lines
from reports.about import NOTES, OPEN
from reports.page import Source, page


def own(**parts):
    """A run as of somebody's own model."""
    run = Run(spec={"name": "model"}, spec_sha256="", data_sha256="", created="now", finished=True,
              classes=("cat", "dog"), **parts)  # fmt: skip
    run.put(counted("model", "torch", "clean", 90, 100))
    run.put(counted("model", "torch", "fgsm", 30, 100, 0.1, norm="linf"))
    return run


def facts(html):
    return dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]*)</dd>", html.partition("</header>")[0]))


MODEL = ModelInfo(
    model="model", backend="torch", fingerprint="f", kind="torch.nn.Module ResNet",
    source="mine.models:resnet", parameters=11_173_962, device="cuda:0", outputs="logits",
    preprocessing="mean 0.49, 0.48, 0.45; std 0.2", queries=12_345,
)  # fmt: skip
DATA = DataInfo(source="test.npz", images=2000, shape=(3, 32, 32), dtype="float32",
                bounds=(0.0, 255.0), channel_axis=0)  # fmt: skip


def test_the_card_tells_what_the_model_and_the_data_are():
    run = own(models=[MODEL], data=DATA)
    html = page([Source(run)])
    assert "Model and data" in html
    assert facts(html) == {
        "model": "torch.nn.Module ResNet", "parameters": "11,173,962", "outputs": "logits",
        "preprocessing": "mean 0.49, 0.48, 0.45; std 0.2", "device": "cuda:0",
        "queries": "12,345 images", "source": "test.npz", "test images": "2,000",
        "input": "3 × 32 × 32, channels on axis 0", "dtype": "float32", "bounds": "[0, 255]",
        "classes": "2",
    }  # fmt: skip
    assert "mine.models:resnet" in html.partition("</header>")[0]


def test_the_card_tells_the_layers_and_the_recipe_as_the_spec_has_them():
    run = own(models=[MODEL])
    run.spec["models"] = {"model": {
        "architecture": "cnn", "channels": [16, 32], "dense": [], "batch_norm": True,
        "dropout": 0.0, "training": {"recipe": "pgd-at", "adversary": {"epsilon": 8 / 255}},
    }}  # fmt: skip
    found = facts(page([Source(run)]))
    assert found["layers"] == "channels 16 · 32, batch norm"
    assert found["training"] == "recipe pgd-at, adversary at ε = 8/255"


def test_what_is_not_told_is_not_on_the_card():
    bare = ModelInfo(model="model", backend="torch", fingerprint="f", parameters=0)
    assert facts(page([Source(own(models=[bare]))])) == {"parameters": "0"}
    assert "Model and data" not in page([Source(synthetic_run())])


def test_of_many_models_some_are_folded_and_none_is_lost():
    models = [MODEL.model_copy(update={"model": f"m{at}"}) for at in range(OPEN + 2)]
    head = page([Source(own(models=models))]).partition("</header>")[0]
    assert head.count("torch.nn.Module ResNet") == OPEN + 2
    assert "2 more models" in head


def test_notes_stand_in_the_head_and_in_the_terminal():
    run = own(notes=["epsilon 8 is 8 times the range of the pixels", "bytes <scaled>"])
    head = page([Source(run)]).partition("</header>")[0]
    assert "epsilon 8 is 8 times the range of the pixels" in head
    assert "bytes &lt;scaled&gt;" in head
    assert note_lines(run) == [
        "note: epsilon 8 is 8 times the range of the pixels",
        "note: bytes <scaled>",
    ]
    assert note_lines(own(notes=["two\nlines \x1b[31m"])) == ["note: two lines \\x1b[31m"]
    assert 'class="warnings"' not in page([Source(own())])


def test_of_very_many_notes_the_rest_is_counted():
    head = page([Source(own(notes=[f"note no. {at};" for at in range(NOTES + 3)]))])
    assert f"note no. {NOTES - 1};" in head
    assert "and 3 more notes" in head
    assert f"note no. {NOTES};" not in head.partition("</header>")[0]


def test_workers_of_a_run_pass_on_data_and_notes_once():
    run, other = own(notes=["a"]), own(notes=["a", "b"], data=DATA)
    run.absorb(other)
    assert run.notes == ["a", "b"]
    assert run.data == DATA


def test_an_own_models_run_does_not_look_failed():
    run = own()
    run.put(Record(model="model", backend="torch", check="saliency/strokes", status="skipped",
                   reason="the data has no strokes"))  # fmt: skip
    html = page([Source(run)])
    shown = Page(html)
    assert "<title>MEASURED, NOT JUDGED · model" in html
    assert "Measured, not judged: no expectations were given." in shown.text
    assert 'class="verdict measured fragile"' in html
    assert "FAILED" not in shown.text
    # What was skipped needs no one's attention.
    assert "1 check skipped" in shown.text
    assert "What failed" not in shown.text


def test_what_failed_is_told_apart_from_what_was_skipped():
    run = own()
    for status in ("skipped", "failed"):
        run.put(Record(model="model", backend="torch", check=status, status=status, reason="x"))
    shown = Page(page([Source(run)])).text
    assert "What failed" in shown
    assert "1 check skipped" in shown


def test_an_own_model_is_not_said_to_be_trained_here():
    shown = Page(page([Source(own(models=[MODEL]))]))
    (row,) = (row for table in shown.tables for row in table if "not trained" in "".join(row))
    assert row[1] == "not trained by the harness"
    assert "trained in this run" in Page(page([Source(synthetic_run(backends=["torch"]))])).text


def test_what_an_earlier_call_measured_is_told_with_the_time():
    run = own()
    for check, when in (("clean", "2026-11-01T10:00:00+00:00"), ("fgsm", None)):
        run.put(Record(model="model", backend="torch", check=check, status="passed", measured=when))
    run.created = "2026-11-02T10:00:00+00:00"
    when = "2026-11-01T10:00:00+00:00"
    told = "1 November 2026, 10:00 UTC"
    (row,) = (row for table in Page(page([Source(run)])).tables for row in table if told in row)
    assert row[1:] == [told, told, "clean"]
    run.created = "2026-11-01T10:00:00+00:00"
    assert "Measured before" not in page([Source(run)])
