"""Set the repository's public address: `python -m scripts.address https://github.com/OWNER/expo-lite`.

It lives in pyproject.toml ([project.urls] Repository). README's and the notebooks' badges and the notebooks' install
cells follow from it: with an address they lead there, without one ("") there is no badge, and a notebook installs from
a checkout or a file.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")
PROJECT_URLS = re.compile(r'^\[project\.urls\]\nRepository = "(.*)"\n\n', re.MULTILINE)
BEFORE_URLS = "[project.scripts]\n"
BADGE = re.compile(r"^\[!\[Open in Colab\].*\n+", re.MULTILINE)
IN_README = "Or in a notebook: "
REPOSITORY = re.compile(r'^REPOSITORY = ".*"$', re.MULTILINE)
SHOWN_IN_README = "expo_lite_colab.ipynb"


def address_in(pyproject: str) -> str:
    """The address that the text of pyproject.toml names; empty where it is not known yet."""
    found = PROJECT_URLS.search(pyproject)
    return found[1] if found else ""


def with_address(pyproject: str, address: str) -> str:
    """The text of pyproject.toml with this address, or without one."""
    table = f'[project.urls]\nRepository = "{address}"\n\n' if address else ""
    return PROJECT_URLS.sub("", pyproject).replace(BEFORE_URLS, table + BEFORE_URLS, 1)


def badge(address: str, notebook: str) -> str:
    """A line of Markdown that opens a notebook in Colab."""
    repository = address.removeprefix("https://github.com/")
    picture = "https://colab.research.google.com/assets/colab-badge.svg"
    to = f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/{notebook}"
    return f"[![Open in Colab]({picture})]({to})"


def readme_with(text: str, address: str) -> str:
    """README with its badge, or without one."""
    lines = [badge(address, SHOWN_IN_README), IN_README] if address else [IN_README]
    return BADGE.sub("", text).replace(IN_README, "\n".join(lines), 1)


def notebook_with(notebook: dict[str, Any], name: str, address: str) -> dict[str, Any]:
    """A notebook's JSON with its badge below the title, and the address in its install cell."""
    title, install = notebook["cells"][:2]
    heading, _, rest = BADGE.sub("", "".join(title["source"])).partition("\n\n")
    parts = [heading, badge(address, name), rest] if address else [heading, rest]
    title["source"] = "\n\n".join(parts).splitlines(keepends=True)
    code = REPOSITORY.sub(f'REPOSITORY = "{address}"', "".join(install["source"]))
    install["source"] = code.splitlines(keepends=True)
    return notebook


def derived(address: str) -> dict[Path, str]:
    """What each file that follows from the address should hold."""
    found = {ROOT / "README.md": readme_with((ROOT / "README.md").read_text(encoding="utf-8"), address)}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = notebook_with(json.loads(path.read_text(encoding="utf-8")), path.name, address)
        found[path] = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    return found


def main(arguments: list[str] | None = None) -> None:
    """Write the address into pyproject.toml and whatever follows from it."""
    parser = argparse.ArgumentParser(prog="python -m scripts.address", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("address", help='https://github.com/OWNER/NAME; "" where there is none')
    address = parser.parse_args(arguments).address.rstrip("/")
    if address and not ADDRESS.fullmatch(address):
        parser.error(f"address: {address} is none of the form https://github.com/OWNER/NAME")
    pyproject = ROOT / "pyproject.toml"
    pyproject.write_text(with_address(pyproject.read_text(encoding="utf-8"), address), encoding="utf-8")
    for path, text in derived(address).items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
