"""The routes: what they answer, and in which shape."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from live_servers import PAGE, asked, running, sentence
from PIL import Image
from small_models import small_images, small_net

from harness.attacks import make_attack
from harness.attacks.sweep import sweep
from harness.maths.query import logits_of
from harness.serve.guard import POLICY


def png(pixels, mode=None):
    stream = io.BytesIO()
    Image.fromarray(pixels, mode).save(stream, "png")
    return base64.b64encode(stream.getvalue()).decode()


def test_health(client):
    found = client.get("/health").json()
    assert found | {"version": ""} == {
        "status": "ok", "version": "", "waiting": 0, "capacity": 64,
    }  # fmt: skip


def test_models_tell_what_they_take_and_can_be_asked(client):
    net, box, colour, flat = client.get("/models").json()["models"]
    assert [one["name"] for one in (net, box, colour, flat)] == ["net", "box", "colour", "flat"]
    assert net["input"] == {"shape": [4, 4], "channel_axis": None, "bounds": [0.0, 1.0]}
    assert colour["input"] == {"shape": [4, 4, 3], "channel_axis": 2, "bounds": [-1.0, 1.0]}
    assert net["classes"] == list("abcde")
    assert colour["classes"] == ["0", "1", "2"]
    attacks = {one["name"]: one for one in net["attacks"]}
    assert attacks["fgsm"] == {
        "name": "fgsm", "norm": "linf", "epsilon_max": 1.0, "steps": None, "needs_gradient": True,
    }  # fmt: skip
    assert attacks["pgd-l2"]["epsilon_max"] == 4.0  # √16 pixels
    assert attacks["pgd"]["steps"] == 40
    assert not any(one["needs_gradient"] for one in box["attacks"])
    assert "gradient" in net["methods"]
    assert box["methods"] == []
    assert client.get("/models/flat").json() == flat


def test_predictions_are_the_model_s(client, image):
    x, _ = small_images(3, 0)
    found = asked(client, "predict", images=x.tolist())["predictions"]
    logits = logits_of(small_net(dtype="float32"), x)
    for one, row in zip(found, logits, strict=True):
        assert one["logits"] == row.tolist()
        assert one["label"] == row.argmax()
        assert one["class"] == "abcde"[row.argmax()]
        assert sum(one["probabilities"]) == pytest.approx(1)


def test_an_attack_is_the_suites_attack(client):
    x, y = small_images(4, 1)
    found = asked(
        client, "attack", images=x.tolist(), labels=y.tolist(), attack="pgd", epsilon=0.125
    )["results"]
    model = small_net(dtype="float32")
    (theirs,) = sweep(model, make_attack("pgd"), x, y, [0.125], keep=range(4))
    for one, label, kept, clean, after in zip(
        found, y, theirs.kept, x, theirs.predictions.labels, strict=True
    ):
        assert one["label"] == label
        assert one["adversarial"]["label"] == after
        assert one["misclassified"] == (after != label)
        assert np.array(one["image"], np.float32).tolist() == kept.tolist()
        assert one["perturbation"] == (kept - clean).tolist()
        assert one["distance"] == pytest.approx(np.abs(kept - clean).max())


def test_a_map_its_scores_and_its_mask(client, image):
    (found,) = asked(client, "explain", images=[image.tolist()], method="gradient", top=0.25)[
        "maps"
    ]
    assert found["scores"] == np.abs(found["map"]).tolist()
    assert np.sum(found["mask"]) == 4
    (other,) = asked(client, "explain", images=[image.tolist()], labels=[3])["maps"]
    assert other["label"] == 3
    assert other["map"] != found["map"]


@pytest.mark.parametrize(
    ("name", "shape", "plane"), [("colour", (4, 4, 3), (4, 4)), ("flat", (9,), (3, 3))]
)
def test_scores_and_mask_have_height_and_width_whatever_the_layout(client, name, shape, plane):
    given = np.random.default_rng(0).random(shape).tolist()
    (found,) = asked(client, "explain", name=name, images=[given])["maps"]
    assert np.shape(found["map"]) == shape
    assert np.shape(found["scores"]) == np.shape(found["mask"]) == plane
    assert np.sum(found["scores"]) == pytest.approx(np.abs(found["map"]).sum())
    (attacked,) = asked(client, "attack", name=name, images=[given], attack="fgsm", epsilon=0.1)[
        "results"
    ]
    assert np.shape(attacked["image"]) == shape


def test_the_smallest_epsilon_misclassifies_and_less_does_not(client, image):
    (found,) = asked(client, "smallest", images=[image.tolist()])["results"]
    for factor, expected in ((1.0001, True), (0.99, False)):
        (attacked,) = asked(
            client, "attack", images=[image.tolist()], attack="fgsm",
            epsilon=factor * found["epsilon"],
        )["results"]  # fmt: skip
        assert attacked["misclassified"] is expected
    (none,) = asked(client, "smallest", images=[image.tolist()], limit=found["epsilon"] / 2)[
        "results"
    ]
    assert none["epsilon"] is None
    assert none["limit"] == found["epsilon"] / 2
    wrong = (found["label"] + 1) % 5
    (zero,) = asked(client, "smallest", images=[image.tolist()], labels=[wrong])["results"]
    assert zero["epsilon"] == 0.0


def test_a_png_is_the_image_whose_bytes_it_has(client):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4), dtype=np.uint8)
    numbers = (pixels / 255).tolist()
    bare = png(pixels)
    for given in (bare, f"data:image/png;base64,{bare}", png(np.stack([pixels] * 3, axis=2))):
        (one,) = asked(client, "predict", images=[given])["predictions"]
        assert one == asked(client, "predict", images=[numbers])["predictions"][0]
    (flat,) = asked(client, "predict", name="flat", images=[png(pixels[:3, :3].copy())])[
        "predictions"
    ]
    assert flat["logits"] == pytest.approx((pixels[0, :3] / 255).tolist())


def test_a_png_in_colour_has_the_range_of_the_model(client):
    pixels = np.random.default_rng(1).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    numbers = (pixels / 255 * 2 - 1).tolist()
    (one,) = asked(client, "predict", name="colour", images=[png(pixels)])["predictions"]
    (other,) = asked(client, "predict", name="colour", images=[numbers])["predictions"]
    assert one["logits"] == pytest.approx(other["logits"], abs=1e-5)


@pytest.mark.parametrize(
    "how", [{"params": {"format": "png"}}, {"headers": {"accept": "image/png"}}]
)
@pytest.mark.parametrize("name", ["net", "colour"])
def test_an_attacked_image_as_png(client, name, how):
    shape = (4, 4) if name == "net" else (4, 4, 3)
    given = np.random.default_rng(2).random((2, *shape)).tolist()
    body = {"images": given, "attack": "fgsm", "epsilon": 0.2}
    answer = client.post(f"/models/{name}/attack", json=body, **how)
    assert answer.headers["content-type"] == "image/png"
    drawn = np.asarray(Image.open(io.BytesIO(answer.content)))
    results = asked(client, "attack", name=name, **body)["results"]
    images = np.concatenate([one["image"] for one in results], axis=1)
    low = 0 if name == "net" else -1
    assert (drawn == np.rint(255 * (images - low) / (1 - low))).all()


def test_a_mask_is_drawn_over_the_image(client):
    body = {"images": [np.zeros((4, 4)).tolist()], "top": 0.25}
    answer = client.post("/models/net/explain", json=body, params={"format": "png"})
    drawn = np.asarray(Image.open(io.BytesIO(answer.content)))
    (found,) = asked(client, "explain", **body)["maps"]
    assert ((drawn != 0).any(axis=2) == np.array(found["mask"])).all()


def test_examples_have_every_class_first_and_what_each_model_says(client, served):
    x, y = small_images()
    found = client.get("/examples", params={"count": 12}).json()["examples"]
    assert len(found) == 12
    firsts = len(np.unique(y))
    assert [one["label"] for one in found[:firsts]] == np.unique(y).tolist()
    said = small_net().logits(x.astype(float)).argmax(axis=1)
    for one in found:
        assert one["label"] == y[one["index"]]
        assert np.array(one["image"], np.float32).tolist() == x[one["index"]].tolist()
        assert one["predicted"] == dict.fromkeys(("net", "box"), said[one["index"]])
    assert len({one["index"] for one in found}) == 12
    assert len(client.get("/examples").json()["examples"]) == 20
    assert len(client.get("/examples", params={"count": 100}).json()["examples"]) == len(x)


def test_models_of_other_images_have_no_examples(client):
    assert client.get("/examples", params={"model": "colour"}).json() == {"examples": []}


def test_the_page_and_what_lies_beside_it(client):
    base = client.server.url
    page = client.get(f"{base}/")
    assert page.text == PAGE
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    script = client.get(f"{base}/static/page.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert client.head(f"{base}/").status_code == 200
    for answer in (page, script, client.get("/health")):
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "static/secret.toml", "static/", "static/../api.py", "static/%2e%2e/api.py",
        "static//etc/passwd", "static/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "page.js", "docs", "redoc",
    ],
)  # fmt: skip
def test_nothing_else_of_the_disk_is_served(client, path):
    answer = client.get(f"{client.server.url}/{path}")
    assert answer.status_code == 404
    sentence(answer)


def test_a_server_without_images_and_one_whose_page_is_missing(served, tmp_path):
    from harness.serve.models import Served

    with running(Served(served.models), static=tmp_path) as client:
        assert client.get("/examples").json() == {"examples": []}
        assert client.get(f"{client.server.url}/").status_code == 404
