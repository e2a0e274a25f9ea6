"""Architectures by name: their options, and the networks that these are for some data."""

from __future__ import annotations

import pytest

from harness.errors import HarnessError, SpecError
from harness.networks.families import (
    FAMILIES,
    Family,
    ImageKind,
    MLPOptions,
    architecture_of,
    options_for,
)
from harness.protocol import fully_connected


def test_an_mlp_is_sized_for_the_data():
    made = architecture_of("mlp", {"hidden": [16, 8], "dropout": 0.25}, ImageKind((6, 6), 10))
    assert made == fully_connected((6, 6), (16, 8), 10, dropout=0.25, batch_norm=False)
    assert [place.after for place in made.placed if place.name] == [(16,), (8,), (10,)]


def test_options_have_defaults_and_are_all_told():
    assert options_for("mlp", {"hidden": [4]}).model_dump() == {
        "hidden": (4,), "dropout": 0.0, "batch_norm": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        (
            "mlpp",
            {"hidden": [4]},
            ["architecture: mlpp: no such architecture", "did you mean mlp?"],
        ),
        ("mlp", {}, ["hidden: Field required"]),
        ("mlp", {"hiden": [4]}, ["hiden: unknown key; did you mean hidden?"]),
        ("mlp", {"hidden": []}, ["hidden: "]),
        ("mlp", {"hidden": [0]}, ["hidden.0: "]),
        ("mlp", {"hidden": [4], "dropout": 1.0}, ["dropout: "]),
        ("mlp", {"hidden": [4], "depth": 2}, ["depth: unknown key"]),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_key(name, given, words):
    with pytest.raises(SpecError) as error:
        architecture_of(name, given, ImageKind((6, 6), 10))
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("family", "words"),
    [
        (3, "odd: is a int, not a networks.families.Family"),
        (Family(MLPOptions, lambda *_: "net"), "odd: made a str, not an Architecture"),
    ],
)
def test_what_is_no_architecture_is_refused(monkeypatch, family, words):
    monkeypatch.setitem(FAMILIES, "odd", family)
    with pytest.raises(HarnessError, match=words):
        architecture_of("odd", {"hidden": [4]}, ImageKind((6, 6), 10))
