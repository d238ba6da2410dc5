"""The wheel, an editable install and a bare checkout all work, and the sdist holds what the wheel is built from."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from expo_lite.config.presets import presets

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent
ADDRESS = "https://github.com/me/expo-lite"


def python(*arguments: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Run this interpreter away from the repository; `path` is put before everything that is installed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and with the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel_target(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare folder with nothing but the wheel's content; the dependencies are those of this environment."""
    target = tmp_path_factory.mktemp("target")
    (wheel,) = built.glob("*.whl")
    python("-m", "pip", "install", "--no-deps", "--no-index", "--target", target, wheel, cwd=target)
    return target


@pytest.fixture
def checkout(built: Path, tmp_path: Path) -> Path:
    """The sdist unpacked, with a stale copy of a preset where a build may have left it."""
    (sdist,) = built.glob("*.tar.gz")
    shutil.unpack_archive(sdist, tmp_path)
    (folder,) = tmp_path.glob("expo_lite-*")
    (folder / "expo_lite" / "presets").mkdir()
    (folder / "expo_lite" / "presets" / "tiny.yaml").write_text("# stale\n")
    return folder


def test_wheel_holds_the_package_presets_and_model(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"expo_lite/presets/{name}.yaml" for name in presets()} <= names
    package = {file.relative_to(ROOT).as_posix() for file in (ROOT / "expo_lite").rglob("*") if file.is_file()}
    assert {name for name in package if "__pycache__" not in name} <= names
    assert {name.split("/")[0] for name in names} == {"expo_lite", f"{wheel.name.split('-py3')[0]}.dist-info"}


def test_twine_has_nothing_to_say(built: Path) -> None:
    pytest.importorskip("twine")
    said = python("-m", "twine", "--no-color", "check", "--strict", *built.glob("expo_lite-*"), cwd=built)
    assert said.count("PASSED") == 2


def test_with_an_address_the_wheel_shows_it(checkout: Path, tmp_path: Path) -> None:
    """As it would be released: the address in one place, and from there in the metadata and before every link."""
    shutil.rmtree(checkout / "expo_lite" / "presets")  # the stale copy
    (checkout / "PKG-INFO").unlink()  # else README is taken from there as it was
    pyproject = (checkout / "pyproject.toml").read_text(encoding="utf-8")
    pyproject = re.sub(r"\[project\.urls\]\n(.+\n)*", "", pyproject)
    table = f'[project.urls]\nRepository = "{ADDRESS}"\n\n[project.scripts]'
    (checkout / "pyproject.toml").write_text(pyproject.replace("[project.scripts]", table), encoding="utf-8")
    python("-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path / "dist", checkout, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").iterdir()
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = file.read(name).decode()
    assert f"Project-URL: Repository, {ADDRESS}\n" in metadata
    assert f'src="{ADDRESS}/raw/main/docs/images/' in metadata and f"]({ADDRESS}/blob/main/docs/start.md)" in metadata
    assert not re.search(r"""\]\(docs/|(src|srcset)="docs/""", metadata)


def test_sdist_holds_tests_and_documents(checkout: Path) -> None:
    folders = ("docs", "tests", "examples", "scripts")
    for name in (
        "pyproject.toml",
        "hatch_build.py",
        "README.md",
        "LICENSE",
        "constraints.txt",
        "presets/tiny.yaml",
        *folders,
    ):
        assert (checkout / name).exists(), name


def test_presets_are_found_from_a_wheel(wheel_target: Path, tmp_path: Path) -> None:
    code = "from expo_lite.config.presets import preset_path; print(preset_path('tiny'))"
    assert (
        Path(python("-c", code, cwd=tmp_path, path=wheel_target).strip())
        == wheel_target / "expo_lite/presets/tiny.yaml"
    )
    shown = python("-m", "expo_lite.train", "--preset", "tiny", "--dry-run", cwd=tmp_path, path=wheel_target)
    assert "device: cpu" in shown


def test_presets_are_found_from_a_checkout(checkout: Path, tmp_path: Path) -> None:
    code = "from expo_lite.config.presets import preset_path; print(preset_path('tiny'))"
    assert Path(python("-c", code, cwd=tmp_path, path=checkout).strip()) == checkout / "presets/tiny.yaml"


def test_presets_are_found_from_an_editable_install(checkout: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--target", target)
    python("-m", "pip", "install", *options, "-e", checkout, cwd=tmp_path)
    # -S leaves out this environment, in which the package may itself be installed editable
    code = (
        f"import site; site.addsitedir({str(target)!r})\n"
        "from expo_lite.config.presets import preset_path; print(preset_path('tiny'))"
    )
    assert Path(python("-I", "-S", "-c", code, cwd=tmp_path).strip()) == checkout / "presets/tiny.yaml"


@pytest.fixture(scope="module")
def bare(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.Popen[str]]:
    """Starts the Python of a new environment: the wheel with its app and Jupyter, no checkout, no development tools."""
    folder = tmp_path_factory.mktemp("bare")
    (wheel,) = built.glob("*.whl")
    python("-m", "venv", folder / "venv", cwd=folder)
    own = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = [own, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt"]
    # torch by itself first: pip then takes a CPU build where it knows one
    for what in (["torch"], [f"{wheel}[app]", "nbclient", "ipykernel"]):
        subprocess.run([*install, *what], cwd=folder, check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [own, *arguments], cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    return start


def finished(process: subprocess.Popen[str]) -> str:
    """What it printed."""
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed
    return printed


@pytest.mark.timeout(1200)
class TestTheWheelInABareEnvironment:
    def test_trains(self, bare: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
        small = ["--steps", "3", "--evaluation.samples", "2"]
        small += ["--data.validation-problems", "4", "--data.test-problems", "4"]
        finished(bare("-m", "expo_lite.train", "--preset", "tiny", "--run", "run", *small, cwd=tmp_path))
        assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
        assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3

    def test_serves_the_app(self, bare: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
        serving = bare("-m", "expo_lite", "app", cwd=tmp_path)
        try:
            assert serving.stdout is not None
            said = next(line for line in serving.stdout if line.startswith("Open "))
            with urllib.request.urlopen(said.split()[1], timeout=60) as page:
                assert page.status == 200 and b"gradio" in page.read()
        finally:
            serving.send_signal(signal.SIGINT)
            serving.communicate(timeout=60)

    def test_runs_the_notebook(self, bare: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
        """With fewer steps; tests/test_notebooks.py runs it as it is."""
        notebook = (ROOT / "notebooks" / "expo_lite_tiny.ipynb").read_text()
        (tmp_path / "tiny.ipynb").write_text(re.sub(r'steps\\": \d+', r'steps\\": 2', notebook))
        run = (
            "import nbformat, nbclient; nbclient.NotebookClient(nbformat.read('tiny.ipynb', 4), timeout=300).execute()"
        )
        finished(bare("-c", run, cwd=tmp_path))
        assert (tmp_path / "runs" / "notebook-expo" / "adapter").is_dir()
