"""Networks from ``.keras`` files and folders of SavedModels: no code in them is run."""

from __future__ import annotations

import json
import shutil
import zipfile

import numpy as np
import pytest
from backends_at_hand import at_hand
from small_keras import CLASSES, SHAPE, X, cnn, module
from small_trainers import one_line

from harness.errors import BackendError
from harness.protocol import UNIT, Wrapping


def load(path, how=UNIT):
    return at_hand("keras").load(path, how)


def refused(path):
    with pytest.raises(BackendError) as error:
        load(path)
    said = one_line(error)
    assert str(path) in said
    return said


def rewritten(path, change):
    """The file with another configuration."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    parts["config.json"] = json.dumps(change(config)).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def whole(tmp_path):
    at_hand("keras")
    net = cnn()
    net.save(tmp_path / "net.keras")
    return tmp_path / "net.keras", net


def test_keras_files_are_loaded(whole):
    path, net = whole
    model = load(path, Wrapping(bounds=(0.0, 2.0)))
    assert model.bounds == (0.0, 2.0)
    np.testing.assert_allclose(model.logits(model.asarray(X)), net(X, training=False), atol=1e-6)
    assert at_hand("keras").wrap(net, UNIT).about().identity == model.about().identity


def test_what_the_network_was_compiled_with_does_not_matter(whole):
    path, net = whole
    net.compile("adam", loss=lambda true, said: 0.0)
    net.save(path)
    assert load(path).logits(X[:2]).shape == (2, CLASSES)


def test_folders_of_saved_models_are_loaded(tmp_path):
    at_hand("keras")
    import tensorflow as tf

    net, linear = cnn(), module(signature=[None, *SHAPE])
    net.export(str(tmp_path / "keras"))
    tf.saved_model.save(linear, str(tmp_path / "module"))
    for name, plain in (("keras", net), ("module", linear)):
        model = load(tmp_path / name)
        np.testing.assert_allclose(model.logits(model.asarray(X)), plain(X), atol=1e-5)


# Code in files


def test_a_lambda_is_refused_and_not_run(tmp_path):
    at_hand("keras")
    import keras

    trace = tmp_path / "trace"
    code = f"lambda x: (open({str(trace)!r}, 'w').close(), x)[1]"
    net = keras.Sequential([
        keras.Input((3,)), keras.layers.Lambda(eval(code), output_shape=(3,)),  # noqa: S307
        keras.layers.Dense(2),
    ])  # fmt: skip
    net.save(tmp_path / "net.keras")
    trace.unlink(missing_ok=True)
    said = refused(tmp_path / "net.keras")
    assert "Lambda, whose code may do anything; load it in a function of yours" in said
    assert "load = 'package.module:function'" in said
    assert not trace.exists()


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("os", "system", ["touch {trace}"]),
        ("builtins", "exec", ["open({trace!r}, 'w')"]),
        ("keras.utils", "get_file", ["x", "file://{trace}"]),
        ("keras.src.utils.file_utils", "get_file", ["x", "file://{trace}"]),
        ("kerasx.layers", "Dense", []),
    ],
)
@pytest.mark.parametrize("kind", ["function", "class"])
def test_functions_and_classes_from_elsewhere_are_refused(whole, kind, module, name, arguments):
    """As in files that releases before Keras 3.9 ran code of, in their safe mode."""
    path, _ = whole
    trace = path.parent / "trace"

    def planted(config):
        part = {"module": module, "class_name": name, "registered_name": None, "config": {
            "arguments": [text.format(trace=str(trace)) for text in arguments]}}  # fmt: skip
        if kind == "function":
            part |= {"class_name": "function", "config": name, "registered_name": "function"}
        config["config"]["layers"][2]["config"]["activation"] = part
        return config

    said = refused(rewritten(path, planted))
    assert f"{module}.{name} in it is none of Keras's own; load it in a function" in said
    assert not trace.exists()


def test_classes_of_ones_own_have_to_be_registered(tmp_path):
    at_hand("keras")
    import keras

    class Doubles(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    net = keras.Sequential([keras.Input((3,)), Doubles(), keras.layers.Dense(2)])
    net.save(tmp_path / "net.keras")
    assert "Doubles in it is none of Keras's own; load it in a function of yours" in refused(
        tmp_path / "net.keras"
    )
    keras.saving.register_keras_serializable("ours", "Doubles")(Doubles)
    try:
        net.save(tmp_path / "net.keras")
        assert load(tmp_path / "net.keras").logits(X[:2, 0, 0]).shape == (2, 2)
    finally:
        del keras.saving.get_custom_objects()["ours>Doubles"]
    assert "ours>Doubles in it is none of Keras's own" in refused(tmp_path / "net.keras")


@pytest.mark.parametrize("what", ["write", "print"])
def test_a_saved_model_whose_graph_touches_files_is_refused(tmp_path, what):
    at_hand("keras")
    import tensorflow as tf

    trace = str(tmp_path / "trace")

    class Writes(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 3])])
        def __call__(self, x):
            if tf.reduce_sum(x) > 0:
                if what == "write":
                    tf.io.write_file(trace, "x")
                else:
                    tf.print("x", output_stream=f"file://{trace}")
            return x

    tf.saved_model.save(Writes(), str(tmp_path / "net"))
    said = refused(tmp_path / "net")
    operation = {"write": "WriteFile", "print": "PrintV2"}[what]
    assert f"its graph has {operation}, which may touch files or run code" in said
    assert not (tmp_path / "trace").exists()


# Damage


def test_files_that_are_missing_or_of_another_kind(tmp_path):
    at_hand("keras")
    assert "no such file" in refused(tmp_path / "none.keras")
    (tmp_path / "empty").mkdir()
    assert "has no saved_model.pb" in refused(tmp_path / "empty")
    (tmp_path / "net.txt").write_text("x", encoding="utf-8")
    assert "neither a .keras file nor the folder" in refused(tmp_path / "net.txt")
    for suffix in (".h5", ".hdf5"):
        (tmp_path / f"net{suffix}").write_bytes(b"\x89HDF")
        said = refused(tmp_path / f"net{suffix}")
        assert "safe mode does not cover such files" in said
        assert "save it as .keras" in said


@pytest.mark.parametrize("size", [0, 1, 100, 5000, -1])
def test_truncated_keras_files(whole, size):
    path, _ = whole
    path.write_bytes(path.read_bytes()[:size])
    assert "not a whole .keras file" in refused(path)


def test_a_keras_file_without_its_weights_or_that_says_nonsense(whole):
    path, _ = whole
    kept = path.read_bytes()
    for change in (lambda c: [], lambda c: {"class_name": "Dense"}, lambda c: c | {"config": 3},
                   lambda c: c | {"class_name": 7}):  # fmt: skip
        path.write_bytes(kept)
        refused(rewritten(path, change))
    path.write_bytes(kept)
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
    assert "Keras does not load it" in refused(path)


@pytest.mark.parametrize("part", ["saved_model.pb", "variables/variables.data-00000-of-00001",
                                  "variables/variables.index"])  # fmt: skip
def test_damaged_saved_models(tmp_path, part):
    at_hand("keras")
    import tensorflow as tf

    folder = tmp_path / "net"
    tf.saved_model.save(module(signature=[None, *SHAPE]), str(folder))
    path = folder / part
    path.write_bytes(path.read_bytes()[:40])
    refused(folder)
    path.write_bytes(b"\xff" * 200)
    refused(folder)
    path.unlink()
    refused(folder)
    shutil.rmtree(folder)
    assert "no such file" in refused(folder)
