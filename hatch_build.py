"""The long description of the built package: README.md, on PyPI too with links and pictures that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# ](target) of Markdown, src="target" and srcset="target" of HTML, where the target is a file of the repository
RELATIVE = re.compile(r"""(?P<before>\]\(|\bsrc(?:set)?=")(?![a-z]+:|#|/)(?P<target>[^)"\s]+)""")
PICTURES = (".png", ".svg", ".gif", ".jpg")


class ReadmeHook(MetadataHookInterface):
    """Fills in `readme` from README.md and the one place of the repository's address, [project.urls] Repository."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Called by hatchling with the fields of [project]."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        repository = metadata.get("urls", {}).get("Repository")
        content = absolute(text, repository) if repository else text
        metadata["readme"] = {"content-type": "text/markdown", "text": content}


def absolute(text: str, repository: str) -> str:
    """Markdown whose relative targets lie below the repository's address instead, as GitHub serves files."""

    def there(found: re.Match[str]) -> str:
        kind = "raw" if found["target"].endswith(PICTURES) else "blob"
        return f"{found['before']}{repository.rstrip('/')}/{kind}/main/{found['target']}"

    return RELATIVE.sub(there, text)
