"""Hooks of MkDocs: add the documents outside docs/ to the site, and adapt the links between them.

Links in the documents are relative to the file in the repository, so that they work there, too. The site keeps the
tree of the repository, except that docs/ is its root and README.md its first page.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
INCLUDED = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "benchmarks/README.md",
    "dawp/samples/README.md",
    "results/*",
)
LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)]*)?\))")


def site_path(path: str) -> str:
    """Return where a file of the repository is on the site."""
    return "index.md" if path == "README.md" else path.removeprefix("docs/")


def repository_path(path: str) -> str:
    """Return the file of the repository that is at a path of the site."""
    if path == "index.md":
        return "README.md"
    return path if (ROOT / path).exists() and not (ROOT / "docs" / path).exists() else f"docs/{path}"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the included files."""
    for pattern in INCLUDED:
        for path in sorted(ROOT.glob(pattern)):
            uri = site_path(path.relative_to(ROOT).as_posix())
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the relative links of a page relative to its place on the site."""
    page_uri = page.file.src_uri
    folder = posixpath.dirname(repository_path(page_uri))

    def adapt(link: re.Match[str]) -> str:
        target = site_path(posixpath.normpath(posixpath.join(folder, link[2])))
        return link[1] + posixpath.relpath(target, posixpath.dirname(page_uri) or ".") + link[3]

    return LINK.sub(adapt, markdown)
