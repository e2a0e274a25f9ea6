"""PyTorch networks in files: what is loaded, and that no code of a file is run."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from backends_at_hand import at_hand
from small_torch import CLASSES, X, cnn, exported, logits_of, model_of, vit

from harness.errors import BackendError
from harness.protocol import UNIT


def refusal(path):
    with pytest.raises(BackendError) as error:
        at_hand("torch").load(path, UNIT)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.fixture
def program(tmp_path):
    """A file of an exported network."""
    net = cnn()
    import torch

    torch.export.save(exported(net), tmp_path / "net.pt2")
    return tmp_path / "net.pt2"


def root_of(archive):
    """The folder that all of an archive is in, with its slash; older ones have none."""
    folders = {name.partition("/")[0] for name in archive.namelist()}
    return f"{folders.pop()}/" if len(folders) == 1 else ""


def added(path, entry, content):
    """The same file with one more entry, if it has none of that name."""
    with zipfile.ZipFile(path, "a") as archive:
        name = root_of(archive) + entry
        if name not in archive.namelist():
            archive.writestr(name, content)
    return path


def edited(path, change):
    """The same archive, of which a function has changed entries: of (name, content)."""
    other = path.with_name("edited.pt2")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        root = root_of(old)
        for name in old.namelist():
            new.writestr(name, change(name[len(root) :], old.read(name)))
    return other


def in_program(change):
    """A change of the program, which is JSON."""

    def apply(name, content):
        if not name.startswith("models/") and name != "serialized_exported_program.json":
            return content
        held = json.loads(content)
        change(held)
        return json.dumps(held)

    return apply


# What is loaded


@pytest.mark.parametrize(("make", "rows"), [(cnn, None), (cnn, 8), (vit, 8)])
def test_a_program_gives_the_logits_of_its_network(make, rows, tmp_path):
    net = make()
    import torch

    torch.export.save(exported(net, rows), tmp_path / "net.pt2")
    model = at_hand("torch").load(tmp_path / "net.pt2", UNIT)
    np.testing.assert_allclose(logits_of(model), logits_of(model_of(net)), atol=1e-5)
    assert model.about().kind == "torch.export program"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_gives_the_logits_of_its_network(tmp_path):
    net = cnn()
    import torch

    for name, made in (
        ("script", torch.jit.script(net)),
        ("trace", torch.jit.trace(net, torch.tensor(X))),
        ("frozen", torch.jit.freeze(torch.jit.script(net))),
    ):
        made.save(tmp_path / f"{name}.pt")
        model = at_hand("torch").load(tmp_path / f"{name}.pt", UNIT)
        np.testing.assert_allclose(logits_of(model), logits_of(model_of(net)), atol=1e-5)
        assert model.about().kind == "TorchScript"


def test_a_program_with_modes_and_equations_in_words(tmp_path):
    at_hand("torch")
    import torch

    class Words(torch.nn.Module):
        def forward(self, x):
            large = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
            return torch.einsum("nchw,kc->nk", large, torch.ones(CLASSES, 3))

    torch.export.save(exported(Words()), tmp_path / "net.pt2")
    model = at_hand("torch").load(tmp_path / "net.pt2", UNIT)
    np.testing.assert_allclose(logits_of(model), logits_of(model_of(Words())), rtol=1e-5)


# What is none


def test_weights_and_pickled_modules_are_no_networks(tmp_path):
    net = cnn()
    import torch

    for name, held, old in (
        ("state.pt", net.state_dict(), False), ("module.pt", net, False),
        ("old.pt", net.state_dict(), True), ("state.pt2", net.state_dict(), False),
    ):  # fmt: skip
        torch.save(held, tmp_path / name, _use_new_zipfile_serialization=not old)
        assert "holds weights, not a network" in refusal(tmp_path / name)
        assert "load = 'package.module:function'" in refusal(tmp_path / name)


def test_what_is_missing_damaged_or_a_folder_is_named(program, tmp_path):
    whole = program.read_bytes()
    assert "no such file" in refusal(tmp_path / "none.pt2")
    assert "folder" in refusal(tmp_path)
    for suffix in ("pt", "pt2"):
        path = tmp_path / f"broken.{suffix}"
        for content in (whole[: len(whole) // 2], b"", b"hello", b"PK\3\4"):
            path.write_bytes(content)
            assert "damaged, truncated, or no PyTorch file" in refusal(path)


def test_a_program_that_cannot_be_read_says_so(program):
    def forget(held):
        graph = held["graph_module"]["graph"]
        graph["nodes"] = graph["nodes"][1:]

    assert "cannot be loaded (" in refusal(edited(program, in_program(forget)))


# No code of a file is run


class Opens:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def pickled(thing):
    at_hand("torch")
    import torch

    made = io.BytesIO()
    torch.save(thing, made)
    return made.getvalue()


ENTRIES = ["data/sample_inputs/model.pt", "serialized_example_inputs.pt", "data/weights/model.pt"]


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_pickle_that_would_run_code_is_not_loaded(entry, program, tmp_path):
    mark = tmp_path / "made"
    evil = pickled((Opens(mark),))
    path = edited(program, lambda name, content: evil if name == entry else content)
    assert f"holds more than tensors in {entry}" in refusal(added(path, entry, evil))
    assert not mark.exists()


def test_weights_that_are_pickles_are_not_loaded(program, tmp_path):
    mark = tmp_path / "made"

    def change(name, content):
        if name == "data/weights/weight_0":
            return pickled(Opens(mark))
        if name != "data/weights/model_weights_config.json":
            return content
        held = json.loads(content)
        held["config"]["0.weight"]["use_pickle"] = True
        return json.dumps(held)

    with zipfile.ZipFile(program) as archive:
        if not any("weights_config" in name for name in archive.namelist()):
            pytest.skip("this version of torch stores weights in another way")
    assert "0.weight as a pickle" in refusal(edited(program, change))
    assert not mark.exists()


def test_code_for_guards_is_left_out(program, tmp_path):
    mark = tmp_path / "made"
    code = [f"open({str(mark)!r}, 'w')"]

    def change(held):
        if "guards_code" not in held:
            pytest.skip("this version of torch stores no guards")
        held["guards_code"] = code

    path = edited(program, in_program(change))
    model = at_hand("torch").load(path, UNIT)
    assert logits_of(model).shape == (12, CLASSES)
    assert not mark.exists()


def test_sizes_are_arithmetic_and_no_code(program, tmp_path):
    mark = tmp_path / "made"
    sizes = [
        f"open({str(mark)!r}, 'w')", f"Symbol('s0') + S({str(mark)!r})", "Max.__class__",
        "__import__('os')", "[x for x in y]", "f'{s0}'",
    ]  # fmt: skip
    for size in sizes:

        def change(held, size=size):
            values = held["graph_module"]["graph"]["tensor_values"]
            given = values[next(name for name in values if "input" in name)]
            given["sizes"][0]["as_expr"]["expr_str"] = size

        assert "could run code" in refusal(edited(program, in_program(change)))
    assert not mark.exists()


@pytest.mark.parametrize(
    "target",
    ["torch.os.system", "torch.ops.aten.from_file.default", "torch.ops.aten.save.default",
     "torch.ops.other.thing.default", "torch.ops.higher_order.print", "torch.load"],
)  # fmt: skip
def test_operators_other_than_those_on_tensors_are_refused(target, program):
    def change(held):
        held["graph_module"]["graph"]["nodes"][0]["target"] = target

    assert target in refusal(edited(program, in_program(change)))


def test_names_that_would_become_code_are_refused(program):
    name = "x=open('made')"

    def change(held):
        held["graph_module"]["graph"]["nodes"][0]["outputs"][0]["as_tensor"]["name"] = name

    assert name in refusal(edited(program, in_program(change)))


def test_compiled_code_and_what_else_is_in_an_archive_are_refused(program):
    for entry in ("data/aotinductor/model/code.so", "data/constants/custom_obj_0", "run.py"):
        path = edited(program, lambda name, content: content)
        assert entry in refusal(added(path, entry, b"\x7fELF"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_that_writes_files_is_refused(tmp_path):
    at_hand("torch")
    import torch

    class Writes(torch.nn.Module):
        def forward(self, x):
            torch.save(x, "made")
            return x.flatten(1)

    torch.jit.script(Writes()).save(tmp_path / "net.pt")
    assert "torch.save(" in refusal(tmp_path / "net.pt")
