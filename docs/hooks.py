"""A hook of MkDocs: the papers' READMEs, which lie beside their code, as pages ``papers/<paper>.md`` of the site."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

MODELS = Path(__file__).parents[1] / "lightning_fewshot/models"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each paper."""
    for path in sorted(MODELS.glob("*/README.md")):
        files.append(File.generated(config, f"papers/{path.parent.name}.md", content=as_page(path.read_text())))
    return files


def as_page(text: str) -> str:
    """Return a README with its links to other READMEs and to docs/ as they are on the site.

    >>> as_page("[a](../mlt/README.md#x) [b](../../../docs/studies/mlt.md)")
    '[a](mlt.md#x) [b](../studies/mlt.md)'
    """
    text = re.sub(r"\]\(\.\./(\w+)/README\.md", r"](\1.md", text)
    return text.replace("](../../../docs/", "](../")
