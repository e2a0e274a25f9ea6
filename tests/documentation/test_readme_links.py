"""Links and pictures of README and docs lead somewhere, also from a package index."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest
from documentation_pages import ADDRESS, DOCS, ROOT, project, prose, slug

from reports.section import DOCS as LEADS_TO
from reports.section import TEMPLATES
from reports.sections import SECTIONS

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="not in a checkout")
LINK = re.compile(r"\]\(([^)\s]+)\)")
OWN = re.compile(rf"{re.escape(ADDRESS)}/(?:blob|raw|tree)/main/([^\s)#\"']+)(?:#([\w-]+))?")


def headings(path):
    """The anchors of a page."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def test_links_of_the_readme_are_absolute():
    links = LINK.findall(prose((ROOT / "README.md").read_text(encoding="utf-8")))
    assert len(links) > 20
    assert [link for link in links if not link.startswith("https://")] == []


@pytest.mark.parametrize("name", ["README.md", "SECURITY.md", "CITATION.cff", "pyproject.toml"])
def test_what_they_link_to_in_the_repository_is_there(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for path, anchor in OWN.findall(text):
        assert (ROOT / path).exists(), path
        if anchor:
            assert anchor in headings(ROOT / path), (path, anchor)


def test_pictures_of_the_readme_are_files_of_the_repository():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^\]]{20,}\]\(([^)]+)\)", text)
    assert len(pictures) == text.count("![") == 2
    for picture in pictures:
        assert picture.startswith(f"{ADDRESS}/raw/main/")
        assert (ROOT / picture.removeprefix(f"{ADDRESS}/raw/main/")).is_file()


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda p: p.stem)
def test_links_within_the_documentation_lead_to_a_page_and_a_heading(path):
    for link in LINK.findall(prose(path.read_text(encoding="utf-8"))):
        where, _, anchor = link.partition("#")
        if where.startswith("http"):
            continue
        target = (path.parent / PurePosixPath(where)) if where else path
        assert target.exists(), link
        # Headings of the reference are written when the site is built.
        if anchor and "reference" not in target.parts:
            assert anchor in headings(target), link


def test_what_the_report_leads_to_is_there():
    assert LEADS_TO.format("learn/fgsm") == f"{ADDRESS}/blob/main/docs/learn/fgsm.md"
    pages = {section.learn for section in SECTIONS.values()}
    for template in TEMPLATES.glob("*.jinja"):
        pages |= set(re.findall(r'learn\("([^"]+)"', template.read_text(encoding="utf-8")))
    assert pages - {""} >= {"learn/curves", "learn/confusion", "learn/samples", "learn/saliency"}
    for page in pages - {""}:
        assert (DOCS / f"{page}.md").is_file(), page


def test_one_address_is_said_everywhere():
    urls = project()["urls"]
    assert urls["Repository"] == ADDRESS
    assert all(url.startswith(ADDRESS) for url in urls.values())
    told = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CITATION.cff", *DOCS.rglob("*.md")]
    for path in told:
        for found in re.findall(
            r"https://github\.com/(?!\S*{)[\w.-]+/robustness-harness", path.read_text("utf-8")
        ):
            assert found == ADDRESS, path


def test_the_readme_says_how_to_install_first_and_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE)[:2] == ["Install", "Two commands"]
    assert len(text.splitlines()) < 260
    extras = project()["optional-dependencies"]
    told = text.partition("## Install")[2].partition("\n## ")[0]
    for extra in ("torch", "keras", "jax", "all", "onnx", "search", "serve", "cluster"):
        assert extra in extras
        assert extra in told
