"""``package.module:function``: what somebody's own function returns, or one line on why not."""

from __future__ import annotations

import importlib
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.errors import HarnessError, closest, one_line

FORM = "write package.module:function"
INSTALLED = tuple(
    Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib", "stdlib", "platstdlib")
)
"""Where packages are installed, and Python's own modules lie."""


def is_function(given: str) -> bool:
    """Whether a text names a function, and no file."""
    # A Windows path may hold a colon, too, but is there.
    return ":" in given and not Path(given).exists()


def called(name: str, options: Mapping[str, Any], home: Path | None = None) -> Any:
    """Import a function and call it with options, by their names.

    Modules are looked for in a folder and in the current directory first. What a function returns
    may import more of them later.

    Args:
        name: ``package.module:function``; the function may be an attribute of another thing.
        options: Its arguments, by their names.
        home: That folder, such as the one of a spec.

    Raises:
        HarnessError: There is no such module or function, it does not take these options, or it
            raises; then the line has its own message, with file and line.
    """
    with _importable(Path() if home is None else home):
        function = _function(name)
        _require_fitting(name, function, options)
        try:
            return function(**options)
        except (Exception, SystemExit) as error:
            raise HarnessError(one_line(f"{name}: {_said(error, _home(function))}")) from error


def _function(name: str) -> Callable[..., Any]:
    module_name, colon, path = name.partition(":")
    if not colon or not module_name or not path:
        raise HarnessError(f"{name}: names no module and function; {FORM}")
    if "/" in module_name or "\\" in module_name or module_name.endswith(".py"):
        dotted = module_name.replace("\\", "/").removesuffix(".py").strip("./").replace("/", ".")
        raise HarnessError(f"{name}: a module is named as in an import; write {dotted}:{path}")
    found: Any = _module(name, module_name)
    for part in path.split("."):
        if not hasattr(found, part):
            public = [one for one in dir(found) if not one.startswith("_")]
            there = [one for one in public if callable(getattr(found, one, None))]
            meant = closest(part, there)
            remedy = f"did you mean {meant}?" if meant else f"check the spelling, or {FORM}"
            raise HarnessError(f"{name}: {_place(found)} has no {part}; {remedy}")
        found = getattr(found, part)
    if not callable(found):
        raise HarnessError(f"{name}: is {type(found).__name__}, no function; {FORM}")
    function: Callable[..., Any] = found
    return function


def _module(name: str, module_name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if f"{module_name}.".startswith(f"{missing}."):
            raise HarnessError(
                f"{name}: there is no module {missing} in {Path.cwd()}, nor is one installed; "
                "check the spelling, or change to the folder that holds it"
            ) from error
        raise HarnessError(
            one_line(f"{name}: {_said(error, module_name)}; install it where harness runs")
        ) from error
    except (Exception, SystemExit) as error:
        raise HarnessError(
            one_line(f"{name}: {module_name} does not import: {_said(error, module_name)}")
        ) from error


def _require_fitting(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in another language
        return
    try:
        signature.bind(**options)
    except TypeError as error:
        taken = [
            key for key, one in signature.parameters.items()
            if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
        ]  # fmt: skip
        unknown = next((key for key in options if key not in taken), None)
        if unknown is None:
            raise HarnessError(one_line(f"{name}: {error}; give it in options")) from error
        meant = closest(unknown, taken)
        remedy = f"did you mean {meant}?" if meant else f"it takes {', '.join(taken) or 'none'}"
        raise HarnessError(f"{name}: takes no option {unknown}; {remedy}") from error


@contextmanager
def _importable(home: Path) -> Iterator[None]:
    """Two folders first on the path; they stay there, as the last, for later imports."""
    folders = list(dict.fromkeys([str(home.resolve()), str(Path.cwd())]))
    sys.path[:0] = folders
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for folder in folders:
            with suppress(ValueError):  # the function itself may have changed it
                sys.path.remove(folder)
            if folder not in sys.path and not ("" in sys.path and folder == str(Path.cwd())):
                sys.path.append(folder)


def _said(error: BaseException, home: str) -> str:
    """The message of an exception, with the place in somebody's own code where it came about."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    if isinstance(error, SystemExit):
        text = f"it exits ({error.code}); keep that behind if __name__ == '__main__'"
    elif isinstance(error, HarnessError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = [
        one for one in traceback.extract_tb(error.__traceback__)
        if not one.filename.startswith(("<frozen", __file__))
    ]  # fmt: skip
    # The last line of theirs, not of what it calls.
    package = _package_of(home)
    theirs = [one for one in frames if not _installed(one.filename)] or [
        one for one in frames if package and Path(one.filename).is_relative_to(package)
    ]
    place = next(iter([*theirs[-1:], *frames[-1:]]), None)
    return f"{place.filename}:{place.lineno}: {text}" if place else text


def _installed(file: str) -> bool:
    return any(Path(file).is_relative_to(folder) for folder in INSTALLED)


def _home(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__module__", None) or type(function).__module__)


def _package_of(module_name: str) -> Path | None:
    """The file of a module that stands alone, or the folder of the package that it is in."""
    top = sys.modules.get(module_name.partition(".")[0])
    if top is None or not getattr(top, "__file__", None):
        return None
    file = Path(str(top.__file__))
    return file.parent if file.name == "__init__.py" else file


def _place(found: Any) -> str:
    """What a thing is called, and where a module lies: another may have been meant."""
    if isinstance(found, ModuleType):
        file = getattr(found, "__file__", None)
        return f"{found.__name__} ({file})" if file else found.__name__
    return getattr(found, "__qualname__", type(found).__name__)
