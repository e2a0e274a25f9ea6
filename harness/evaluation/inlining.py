"""The page of the server as one file: its style and its modules inside it, and no network.

The modules are our own, in a plain form: imports at the top of a file, of names from files beside
it; exports in front of functions, classes and constants.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files

from harness.files import as_json

PAGE, WORKER = "page.js", "local-worker.js"
"""The modules that a page begins with, and a worker of it."""
IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export ((?:async )?(?:function\*?|class|const) (\w+))", re.MULTILINE)
LEFT = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)
STYLE = '<link rel="stylesheet" href="static/style.css">'
SCRIPT = '<script type="module" src="static/page.js"></script>'
META = '<meta charset="utf-8">'
POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data: blob:; "
    "worker-src blob:; connect-src 'none'; base-uri 'none'; form-action 'none'"
)


def one_file(bundle: Mapping[str, object]) -> str:
    """The page as one file, with a bundle of networks that it computes with by itself.

    Its content security policy allows nothing but what is in the file.

    Raises:
        ValueError: The page or a module is not in the plain form.
    """
    static = files("harness") / "serve" / "static"
    modules = {
        entry.name: entry.read_text(encoding="utf-8")
        for entry in static.iterdir()
        if entry.name.endswith(".js")
    }
    page = static.joinpath("index.html").read_text(encoding="utf-8")
    style = static.joinpath("style.css").read_text(encoding="utf-8")
    return assembled(page, style, modules, bundle)


def assembled(
    page: str, style: str, modules: Mapping[str, str], bundle: Mapping[str, object]
) -> str:
    """The parts in one.

    Args:
        page: HTML that refers to its style and its first module.
        style: CSS.
        modules: JavaScript by the names of its files.
        bundle: What the page is given, JSON-like.

    Raises:
        ValueError: One is not in the plain form.
    """
    script, worker = joined(modules, PAGE), joined(modules, WORKER)
    _require_inlinable("style.css", style, "</style")
    # A browser takes no part of these for the end of their element.
    data = as_json(bundle).replace("<", "\\u003c")
    policy = POLICY.format(script=_hash(script), style=_hash(style))
    scripts = "\n".join(
        (
            f'<script type="application/json" id="bundle">{data}</script>',
            f'<script type="text/plain" id="worker">{worker}</script>',
            f'<script type="module">{script}</script>',
        )
    )
    for old, new in (
        (META, f'{META}\n<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        (STYLE, f"<style>{style}</style>"),
        (SCRIPT + "\n", ""),
        ("</body>", f"{scripts}\n</body>"),
    ):
        if page.count(old) != 1:
            raise ValueError(f"index.html: has not once {old!r}")
        page = page.replace(old, new)
    return page


def joined(modules: Mapping[str, str], first: str) -> str:
    """One script that does what a module does with all that it imports.

    Each module becomes a function of its own that returns what it exports, so that names of one are
    not those of another.

    Raises:
        ValueError: A module is missing, imports itself by way of others, or is not in the plain
            form; or it has what would end its element in a page.
    """
    parts: dict[str, str] = {}

    def add(name: str, path: tuple[str, ...]) -> None:
        if name in path or name not in modules:
            raise ValueError(f"{name}: is not there, or imports itself: {' > '.join(path)}")
        if name in parts:
            return
        for _, other in IMPORT.findall(modules[name]):
            add(other, (*path, name))
        parts[name] = _as_function(name, modules[name])

    add(first, ())
    script = '"use strict";\n' + "".join(parts.values())
    _require_inlinable(first, script, "</script", "<!--")
    return script


def _as_function(name: str, text: str) -> str:
    exported = [found[1] for found in EXPORT.findall(text)]
    body = IMPORT.sub(_taken, EXPORT.sub(r"\1", text))
    if left := LEFT.search(body):
        raise ValueError(f"{name}: {left[0]!r} is not in the plain form")
    given = f"return {{ {', '.join(exported)} }};\n" if exported else ""
    return f"const {_variable(name)} = (() => {{\n{body}{given}}})();\n"


def _taken(found: re.Match[str]) -> str:
    """An import as names of what another module returned."""
    names = re.sub(r"\s+as\s+", ": ", " ".join(found[1].split()))
    return f"const {{ {names.rstrip(',')} }} = {_variable(found[2])};\n"


def _variable(name: str) -> str:
    return "$" + re.sub(r"\W", "_", name.removesuffix(".js"))


def _require_inlinable(name: str, text: str, *ends: str) -> None:
    if found := next((end for end in ends if end in text.lower()), None):
        raise ValueError(f"{name}: {found} would end the element that it is in")


def _hash(text: str) -> str:
    """As a content security policy names a script, or a style."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
