"""What PyPI shows of README.md: hatch_build.py puts the repository's address before what is relative."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("hatchling")
from hatch_build import RELATIVE, ReadmeHook, absolute

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = "https://github.com/me/expo-lite"


def test_every_relative_target_is_a_file() -> None:
    targets = [found["target"].split("#")[0] for found in RELATIVE.finditer(README)]
    assert len(targets) > 20 and [target for target in targets if not (ROOT / target).exists()] == []


def test_pictures_and_pages_get_the_address() -> None:
    told = absolute(README, f"{ADDRESS}/")
    assert not RELATIVE.search(told) and told.count(ADDRESS) == len(RELATIVE.findall(README))
    assert f'srcset="{ADDRESS}/raw/main/docs/images/compare-dark.png"' in told
    assert f'src="{ADDRESS}/raw/main/docs/images/compare-light.png"' in told
    assert f"]({ADDRESS}/raw/main/docs/images/results.png)" in told
    assert f"[start]({ADDRESS}/blob/main/docs/start.md)" in told
    assert "(https://arxiv.org/abs/2507.02834)" in told
    assert absolute("[a](#b) [c](https://d) [e](/f)", ADDRESS) == "[a](#b) [c](https://d) [e](/f)"


@pytest.mark.parametrize("urls", [{}, {"urls": {"Documentation": "https://d"}}, {"urls": {"Repository": ADDRESS}}])
def test_the_address_is_that_of_the_project(urls: dict[str, dict[str, str]]) -> None:
    metadata = {"name": "expo-lite", **urls}
    ReadmeHook(str(ROOT), {}).update(metadata)
    known = "Repository" in urls.get("urls", {})
    assert metadata["readme"] == {
        "content-type": "text/markdown", "text": absolute(README, ADDRESS) if known else README
    }  # fmt: skip
