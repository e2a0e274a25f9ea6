"""Triton, which PyTorch's builds for CUDA bring along, beside TensorFlow: only in one order."""

import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from backends_at_hand import at_hand

from backends.torch_triton import why_no_triton
from harness.errors import BackendError, NotApplicable
from harness.networks.initial import initial_weights
from harness.protocol import UNIT, Network, Optimizer, fully_connected

SMALL = fully_connected((2, 2), (3,), 2)


@pytest.mark.parametrize("content", ["", "raise OSError('no such library')"])
def test_keras_loads_it_before_tensorflow(content, tmp_path):
    at_hand("keras")
    (tmp_path / "triton.py").write_text(
        f"import sys\nprint('tensorflow' in sys.modules)\n{content}", encoding="utf-8"
    )
    code = "from harness import registry; registry.backend('keras')"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, text=True, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )  # fmt: skip
    assert done.stdout == "False\n"


def test_torch_does_not_load_it_where_that_would_end_the_process(monkeypatch, tmp_path):
    backend = at_hand("torch")
    network = Network(SMALL, initial_weights(SMALL, seed=0))
    model = backend.build(network)
    copies = backend.copies(model)
    backend.trainer(network, UNIT, Optimizer(), seed=0)
    copies.learner(seed=0)
    backend.save(network, tmp_path / "net.pt2")
    # As TensorFlow makes it, where Triton is installed, and has not been loaded.
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    monkeypatch.setattr("backends.torch_triton.find_spec", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(LLVMContextCreate=None))
    said = "TensorFlow was imported first, .*; import triton before tensorflow"
    with pytest.raises(BackendError, match=said):
        backend.trainer(network, UNIT, Optimizer(), seed=0)
    with pytest.raises(BackendError, match=said):
        backend.save(network, tmp_path / "other.pt2")
    with pytest.raises(BackendError, match=rf"net\.pt2: {said}"):
        backend.load(tmp_path / "net.pt2", UNIT)
    with pytest.raises(NotApplicable, match=said):
        copies.learner(seed=0)
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace())
    assert why_no_triton() == ""


def test_torch_loads_it_where_no_llvm_is_everybodys(monkeypatch):
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    monkeypatch.setattr("backends.torch_triton.find_spec", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert why_no_triton() == ""
