"""OpenAPI: what it promises is kept, which schemathesis tries with requests of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from live_servers import asked, running

from harness.serve.models import Served

EXAMPLES = int(os.environ.get("HARNESS_TEST_EXAMPLES", "12"))
"""Requests that are made up for each route."""


@pytest.fixture(scope="module")
def document(client):
    return client.get(f"{client.server.url}/openapi.json").json()


def test_it_tells_which_models_attacks_and_images_there_are(document):
    schemas = document["components"]["schemas"]
    predict = document["paths"]["/api/v1/models/{name}/predict"]["post"]
    (name,) = predict["parameters"]
    assert name["schema"]["enum"] == ["net", "box", "colour", "flat"]
    images = schemas["PredictBody"]["properties"]["images"]
    assert (images["minItems"], images["maxItems"]) == (1, 16)
    grey = images["items"]["anyOf"][0]
    assert (grey["minItems"], grey["items"]["maxItems"]) == (4, 4)
    assert grey["items"]["items"] == {"type": "number", "minimum": 0.0, "maximum": 1.0}
    attack = schemas["AttackBody"]["properties"]
    assert {"fgsm", "square"} <= set(attack["attack"]["enum"])
    assert attack["epsilon"]["minimum"] == 0
    assert "at most 100 steps" in document["info"]["description"]


def test_every_refusal_has_its_body(document):
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for code, answer in operation["responses"].items():
                if code != "200":
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Problem"}, path
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_its_examples_are_answered(client, document):
    for route, name in {
        "predict": "PredictBody", "attack": "AttackBody", "explain": "ExplainBody",
        "smallest": "SmallestBody",
    }.items():  # fmt: skip
        examples = document["components"]["schemas"][name]["examples"]
        assert examples
        for body in examples:
            asked(client, route, **body)


@pytest.mark.parametrize("names", [("net",), ("net", "box", "colour", "flat")])
def test_schemathesis_finds_nothing(served, names, tmp_path):
    """Its own command, with all its checks, as anybody would run it."""
    some = Served({name: served.models[name] for name in names}, served.examples)
    with running(some) as client:
        done = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "run",
                f"{client.server.url}/openapi.json", "--max-examples", str(EXAMPLES),
                "--seed", "0", "--generation-database", "none", "--no-color",
                "--request-timeout", "20",
            ],
            capture_output=True, text=True, timeout=300, cwd=tmp_path, check=False,
        )  # fmt: skip
        assert client.get("/health").is_success
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Tested: 8" in done.stdout
