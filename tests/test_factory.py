"""``package.module:function``: what it returns, and one line on all that can be wrong with it."""

from __future__ import annotations

import itertools
import sys

import pytest

from harness.errors import HarnessError
from harness.factory import called

NUMBERS = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module into the current directory, and gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def written(text, name=None):
        name = name or f"theirs{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    yield written
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refused(name, **options):
    with pytest.raises(HarnessError) as caught:
        called(name, options)
    said = str(caught.value)
    assert "\n" not in said
    assert "Traceback" not in said
    return said


def test_a_function_is_called_with_its_options(module):
    name = module("def make(a, *, b=2):\n    return a, b\n")
    assert called(f"{name}:make", {"a": 1}) == (1, 2)
    assert called(f"{name}:make", {"a": 1, "b": 3}) == (1, 3)


def test_a_method_of_a_class_is_a_function_too(module):
    name = module("class A:\n    @classmethod\n    def make(cls):\n        return cls.__name__\n")
    assert called(f"{name}:A.make", {}) == "A"


def test_a_function_in_a_package(module, tmp_path):
    package = f"theirs{next(NUMBERS)}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "nets.py").write_text("def make():\n    return 7\n")
    assert called(f"{package}.nets:make", {}) == 7


def test_what_a_function_imports_lies_beside_it(module):
    module("VALUE = 3\n", "helper_of_theirs")
    name = module(
        "def make():\n    import helper_of_theirs\n    return helper_of_theirs.VALUE\n"
        "def later():\n    def use():\n        import later_of_theirs\n"
        "        return later_of_theirs.VALUE\n    return use\n"
    )
    assert called(f"{name}:make", {}) == 3
    use = called(f"{name}:later", {})
    module("VALUE = 4\n", "later_of_theirs")
    assert use() == 4


def test_the_current_directory_comes_first_only_while_it_is_called(module):
    before = list(sys.path)
    name = module("def make():\n    import sys\n    return sys.path[0]\n")
    assert called(f"{name}:make", {}) != before[0]
    assert sys.path[: len(before)] == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nets", "nets: names no module and function; write package.module:function"),
        ("nets:", "nets:: names no module and function; write package.module:function"),
        (":make", ":make: names no module and function; write package.module:function"),
        ("nets.py:make", "nets.py:make: a module is named as in an import; write nets:make"),
        ("./a/nets.py:make", "a module is named as in an import; write a.nets:make"),
        ("no_such_module:make", "there is no module no_such_module in "),
        ("json.no_such:make", "there is no module json.no_such in "),
        ("json:lods", "has no lods; did you mean loads?"),
        ("json:zzz", "has no zzz; check the spelling"),
        ("json:decoder", "json:decoder: is module, no function"),
    ],
)
def test_a_name_of_nothing(module, name, said):
    assert said in refused(name)


def test_a_module_that_lacks_another(module):
    name = module("import os\nimport no_such_package\n")
    said = refused(f"{name}:make")
    assert "No module named 'no_such_package'" in said
    assert f"{name}.py:2: " in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nx.y\n", ":2: AttributeError: 'int' object has no attribute 'y'"),
        ("def make(:\n", ":1: SyntaxError"),
        ("import sys\nsys.exit(3)\n", ":2: it exits (3); keep that behind if __name__"),
    ],
)
def test_a_module_that_does_not_import(module, text, said):
    name = module(text)
    found = refused(f"{name}:make")
    assert "does not import: " in found
    assert f"{name}.py{said}" in found


def test_a_function_that_raises_has_its_own_message_file_and_line(module):
    name = module("def make():\n    data = {}\n    return data['weights']\n")
    assert f"{name}.py:3: KeyError: 'weights'" in refused(f"{name}:make")


def test_the_line_is_theirs_where_something_that_they_call_raises(module):
    name = module("import json\ndef make():\n    return json.loads('{')\n")
    said = refused(f"{name}:make")
    assert f"{name}.py:3: JSONDecodeError: " in said


def test_our_own_errors_keep_their_words(module):
    name = module(
        "from harness.errors import HarnessError\ndef make():\n    raise HarnessError('do this')\n"
    )
    assert refused(f"{name}:make").endswith(f"{name}.py:3: do this")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sise": 3}, "takes no option sise; did you mean size?"),
        ({"zzz": 3}, "takes no option zzz; it takes root, size"),
        ({}, "missing a required argument: 'root'; give it in options"),
    ],
)
def test_options_that_it_does_not_take(module, options, said):
    name = module("def make(root, size=1):\n    return 0\n")
    assert said in refused(f"{name}:make", **options)


def test_a_keyboard_interrupt_is_not_an_error_of_theirs(module):
    name = module("def make():\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        called(f"{name}:make", {})
