"""The registry of backends, and the helper by which tests take one or are skipped."""

from __future__ import annotations

import backends_at_hand
import pytest
from backends_at_hand import at_hand
from small_trainers import one_line

from harness import registry
from harness.errors import BackendError


def test_an_unknown_backend_is_refused_by_name():
    for ask in (registry.missing, registry.backend):
        with pytest.raises(BackendError) as error:
            ask("theano")
        assert "theano" in one_line(error)
        assert "torch, keras, jax, numpy" in str(error.value)


@pytest.fixture
def ghost(monkeypatch):
    entry = registry.BackendEntry("backends.ghost", "Ghost", ("no_such_package", "numpy"))
    monkeypatch.setitem(registry.BACKENDS, "ghost", entry)
    monkeypatch.setattr(backends_at_hand, "NAMES", tuple(registry.BACKENDS))


@pytest.mark.usefixtures("ghost")
def test_a_backend_that_is_not_installed_says_what_to_install():
    reason = registry.missing("ghost")
    assert "no_such_package" in reason
    assert "numpy" not in reason
    assert "pip install 'robustness-harness[ghost]'" in reason
    with pytest.raises(BackendError) as error:
        registry.backend("ghost")
    assert one_line(error) == reason
    registry.import_together({"ghost"})


def test_a_framework_that_does_not_import_is_one_line(monkeypatch):
    entry = registry.BackendEntry("backends.no_such_module", "Ghost")
    monkeypatch.setitem(registry.BACKENDS, "ghost", entry)
    with pytest.raises(BackendError) as error:
        registry.backend("ghost")
    assert "ghost" in one_line(error)
    assert "does not import" in str(error.value)


def test_one_that_does_not_import_is_passed_over_and_the_others_are_imported(monkeypatch):
    imported = []

    class Fine:
        def __init__(self):
            imported.append("fine")

    entries = {"broken": registry.BackendEntry("backends.no_such_module", "Ghost"),
               "fine": registry.BackendEntry("test_registry", "Fine")}  # fmt: skip
    monkeypatch.setattr(registry, "BACKENDS", entries)
    monkeypatch.setitem(globals(), "Fine", Fine)
    registry.backend.cache_clear()
    try:
        registry.import_together({"fine", "broken"})
        with pytest.raises(BackendError, match="broken: its framework does not import"):
            registry.backend("broken")
    finally:
        registry.backend.cache_clear()
    assert imported == ["fine"]


@pytest.mark.usefixtures("ghost")
def test_tests_of_a_missing_backend_are_skipped_unless_it_must_be_there(monkeypatch):
    monkeypatch.delenv(backends_at_hand.REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="no_such_package not installed"):
        at_hand("ghost")
    monkeypatch.setenv(backends_at_hand.REQUIRED, "numpy, ghost")
    with pytest.raises(pytest.fail.Exception, match=r"names ghost, but .*no_such_package"):
        at_hand("ghost")
    monkeypatch.setenv(backends_at_hand.REQUIRED, "nunpy")
    with pytest.raises(ValueError, match="nunpy"):
        at_hand("numpy")


# Of other packages


class TheirNet:
    pass


@pytest.fixture
def theirs(monkeypatch):
    """Registers backends as if another package had them, each by its factory."""
    fresh = registry.Registry("backend", "harness.backends", registry.OWN)
    monkeypatch.setattr(registry, "BACKENDS", fresh)

    def have(**factories):
        for name, factory in factories.items():
            fresh[name] = factory

    registry.backend.cache_clear()
    yield have
    registry.backend.cache_clear()


def made(called, **methods):
    return type("Made", (), {"name": called, **methods})


def test_those_of_the_harness_come_first_and_in_their_order(theirs):
    theirs(mlx=made("mlx"))
    assert list(registry.BACKENDS) == [
        "torch", "keras", "jax", "numpy", "onnx", "sklearn", "callable", "mlx"
    ]  # fmt: skip
    assert registry.builders() == ["torch", "keras", "jax", "numpy", "mlx"]
    assert registry.missing("mlx") == ""
    assert registry.backend("mlx").name == "mlx"


def test_another_packages_backend_says_which_networks_it_knows(theirs):
    theirs(
        silent=made("silent"),
        mlx=made("mlx", knows=lambda self, net: isinstance(net, TheirNet)),
    )
    assert registry.backend_of(TheirNet()).name == "mlx"
    with pytest.raises(BackendError, match="object: not a network of a known framework"):
        registry.backend_of(object())


def test_one_that_breaks_when_it_is_asked_does_not_keep_the_others_from_it(theirs):
    theirs(
        broken=made("broken", knows=lambda self, net: 1 / 0),
        mlx=made("mlx", knows=lambda self, net: isinstance(net, TheirNet)),
    )
    assert registry.backend_of(TheirNet()).name == "mlx"
    with pytest.raises(BackendError) as error:
        registry.backend_of(object())
    assert one_line(error).endswith("; backend broken: division by zero")


def test_a_backend_that_calls_itself_otherwise_is_refused(theirs):
    theirs(mlx=made("numpy"))
    with pytest.raises(BackendError, match="backend mlx: its name is 'numpy'; give"):
        registry.backend("mlx")


def test_a_backend_whose_factory_raises_is_one_line(theirs):
    def raises():
        raise OSError("no such\ndevice")

    theirs(mlx=raises)
    with pytest.raises(BackendError, match="mlx: its framework does not import"):
        registry.backend("mlx")
    registry.import_together({"mlx"})
