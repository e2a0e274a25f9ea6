"""What ``harness init`` writes into somebody's own repository."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tomlkit

from harness.errors import HarnessError, encoded
from harness.evaluation.imported import RUNTIME
from harness.evaluation.named import dataset_from, layout_for, source_key
from harness.evaluation.wrapping import backend_name_of, is_onnx, wrap
from harness.files import replacing
from harness.maths.channels import channel_axis_of
from harness.maths.query import logits_of
from harness.protocol import GRADIENT, Bounds

SPEC, IGNORED = "robustness.toml", "results/"
JOBS = {"github": ".github/workflows/robustness.yml", "gitlab": ".gitlab-ci.yml"}
"""Where a job lies."""
ATTACKED, EXPLAINED = 500, 100
"""Images that strong attacks, and saliency maps, are measured on: a job should take minutes."""
EXTRAS = ("torch", "keras", "jax")
"""Frameworks that an extra of the package installs."""
METHODS = ["gradient", "integrated-gradients"]
"""Saliency methods whose maps are measured, and checked."""
LEVELS = (0, 1, 2, 4, 8)
"""Epsilons of colour images, in levels of 8-bit pixels."""
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3)
"""Epsilons of grey images, as shares of the pixel range."""


@dataclass(frozen=True)
class Starter:
    """A repository, and what its model and images are.

    Attributes:
        folder: Of the repository.
        model: File or function of the model.
        data: File, folder or function of the images.
        ci: ``github`` or ``gitlab``.
        bounds: Lowest and highest pixel value.
        size: To which images of a folder are brought.
        backend: Of the model.
        gradient: Whether the model gives gradients.
        colour: Whether the images have three channels or more.
        layout: The channel axis that has to be said.
        images: How many there are.
        name: Of the run.
    """

    folder: Path
    model: str
    data: str
    ci: str
    bounds: Bounds
    size: tuple[int, int] | None
    backend: str
    gradient: bool
    colour: bool
    layout: int | None
    images: int
    name: str

    @classmethod
    def of(
        cls,
        model: str,
        data: str,
        folder: Path,
        ci: str,
        bounds: Bounds,
        size: tuple[int, int] | None,
    ) -> Starter:
        """Look at the model and at the first images.

        Raises:
            HarnessError: They cannot be had, or do not fit each other; or a file is there already.
        """
        for name in (SPEC, JOBS[ci]):
            if (folder / name).exists():
                raise HarnessError(f"{folder / name}: is there already; nothing was written")
        wrapped = wrap(model, bounds=bounds)
        layout = layout_for(wrapped, data, None)
        images = dataset_from(data, bounds, size, layout)
        first = np.asarray(images.test.x[:2])
        try:
            logits_of(wrapped, first)
        except Exception as error:
            raise HarnessError(f"{model}: cannot take the images of {data}: {error}") from error
        shape = tuple(first.shape[1:])
        axis = channel_axis_of(wrapped, shape)
        return cls(
            folder=folder, model=model, data=data, ci=ci, bounds=bounds, size=size,
            backend=backend_name_of(wrapped)[0],
            gradient=GRADIENT in wrapped.capabilities,
            colour=axis is not None and shape[axis] >= 3,
            layout=layout,
            images=len(images.test),
            name=_name_of(folder.resolve().name),
        )  # fmt: skip


def written(found: Starter) -> Iterator[tuple[Path, str]]:
    """Write all files; each path is given with what lies there."""
    spec, job = found.folder / SPEC, found.folder / JOBS[found.ci]
    keep = found.folder / "baselines" / ".gitkeep"
    ignore = found.folder / ".gitignore"
    for path, text, what in (
        (spec, spec_text(found), "spec"),
        (keep, "", "baselines"),
        (ignore, _ignoring(ignore), "ignored"),
        (job, job_text(found), "job"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as stream:
            stream.write(encoded(text))
        yield path, what


def spec_text(found: Starter) -> str:
    """The spec, with what one may want to change beside it."""
    document = tomlkit.document()
    document.add(tomlkit.comment("What `harness run robustness.toml` measures."))
    document["name"] = found.name
    unit = found.colour and found.bounds[1] - found.bounds[0] == 1
    if unit:
        document["epsilon_unit"] = 255
        document["epsilon_unit"].comment("epsilons below are in 1/255 of a pixel unit")
    data = tomlkit.table()
    data[source_key(found.data, "folder")] = _written(found.data, found.folder)
    data["bounds"] = list(found.bounds)
    if found.size is not None:
        data["size"] = list(found.size)
    if found.layout is not None:
        data["channel_axis"] = found.layout
        data["channel_axis"].comment("of images (channels, height, width)")
    document["data"] = data
    model = tomlkit.table()
    model[source_key(found.model, "file")] = _written(found.model, found.folder)
    model.add(tomlkit.comment("Normalisation before the network, per channel, in pixel units:"))
    model.add(tomlkit.comment("preprocessing = { mean = [0.5, 0.5, 0.5], std = [0.2, 0.2, 0.2] }"))
    model.add(tomlkit.comment("What accuracies are judged by; the gate needs none of it:"))
    model.add(tomlkit.comment("expect = { clean = [0.9, 1.0] }"))
    document["models"] = {found.name: model}
    document["attacks"] = _attacks(found, unit=unit)
    width = found.bounds[1] - found.bounds[0]
    if found.gradient:
        largest = LEVELS[-1] if unit else _rounded(0.1 * width)
        document["saliency"] = {"methods": METHODS, "images": EXPLAINED, "epsilon": largest}
    else:
        document["saliency"] = {"methods": []}
    return tomlkit.dumps(document)


def job_text(found: Starter) -> str:
    """The job that measures and gates each change, and keeps the report."""
    install = f'python -m pip install "robustness-harness{_extra(found)}"'
    if (found.folder / "requirements.txt").exists():
        install += " -r requirements.txt"
    if any((found.folder / name).exists() for name in ("pyproject.toml", "setup.py")):
        install += " -e ."
    gate = f"harness gate results --baseline baselines/{found.name}"
    if found.ci == "gitlab":
        return GITLAB.format(install=install, gate=gate)
    return GITHUB.format(install=install, gate=gate)


GITHUB = """\
name: robustness
on: [push, pull_request]
jobs:
  robustness:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {{python-version: "3.12"}}
      - run: {install}
      - run: harness run robustness.toml
      - if: ${{{{ !cancelled() }}}}
        run: {gate} --markdown - >> "$GITHUB_STEP_SUMMARY"
      - if: ${{{{ !cancelled() }}}}
        uses: actions/upload-artifact@v4
        with: {{name: robustness, path: results/report.html}}
"""
GITLAB = """\
robustness:
  image: python:3.12
  script:
    - {install}
    - harness run robustness.toml
    - {gate} --junit results/gate.xml
  artifacts:
    when: always
    paths: [results/report.html]
    reports: {{junit: results/gate.xml}}
"""


def _attacks(found: Starter, *, unit: bool) -> dict[str, dict[str, object]]:
    width = found.bounds[1] - found.bounds[0]
    if found.colour:
        step = 1.0 if unit else width / 255
        radii = [level if unit else _rounded(level * step) for level in LEVELS]
    else:
        radii = [_rounded(share * width) for share in SHARES]
    few: dict[str, object] = {"images": min(found.images, ATTACKED)}
    strong: list[object] = [radii[0], radii[-2], radii[-1]]
    if not found.gradient:
        return {"noise": {"epsilons": radii}, "square": {"epsilons": strong} | few}
    return {"fgsm": {"epsilons": radii}, "apgd": {"epsilons": strong} | few}


def _ignoring(path: Path) -> str:
    """What a ``.gitignore`` holds, and the results."""
    try:
        held = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return f"{IGNORED}\n"
    if IGNORED in held.splitlines():
        return held
    return f"{held}{'' if held.endswith(chr(10)) or not held else chr(10)}{IGNORED}\n"


def _written(source: str, folder: Path) -> str:
    """A file, a folder or a function, as the spec in a repository names it."""
    if source_key(source, "file") == "load" or Path(source).is_absolute():
        return source
    try:
        return Path(os.path.relpath(source, folder)).as_posix()
    except ValueError:  # on another drive
        return str(Path(source).resolve())


def _extra(found: Starter) -> str:
    """What is to be installed with the package."""
    read = RUNTIME if is_onnx(found.model) else ""
    names = dict.fromkeys((read, found.backend))
    extras = [name for name in names if name == RUNTIME or name in EXTRAS]
    return f"[{','.join(extras)}]" if extras else ""


def _name_of(folder: str) -> str:
    return re.sub(r"[^\w.-]+", "-", folder).strip("-.") or "model"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
