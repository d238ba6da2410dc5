"""A run's folder of before the package was laid out in rooms (November 2026) goes on as if nothing had been."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from expo_lite.app import opening
from expo_lite.app.run_list import list_runs
from expo_lite.app.runs.tables import load_metrics
from expo_lite.commands import doctor, evaluate, train
from expo_lite.runs.folder import EVAL, METRICS, RunDir


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The folder: two steps of the tiny preset, finished. Its adapter names a base that lies elsewhere now."""
    return Path(shutil.copytree(Path(__file__).parents[1] / "data" / "run_before_the_rooms", tmp_path / "earlier"))


def test_it_is_resumed(earlier: Path) -> None:
    before = RunDir(earlier).read(METRICS)
    assert train.main(["--run", str(earlier), "--resume", "--steps", "3"]) == 0
    assert RunDir(earlier).read(METRICS)[:2] == before
    assert [record["step"] for record in RunDir(earlier).read(METRICS)] == [1, 2, 3]
    assert RunDir(earlier).read_status()["state"] == "finished"


def test_it_is_evaluated_as_it_was(earlier: Path) -> None:
    assert evaluate.main([str(earlier), "--problems", "2", "--samples", "2", "--k", "1"]) == 0
    results = json.loads((earlier / "evaluation" / "results.json").read_text())
    assert [level["level"] for level in results["levels"]] == [1, 2, 3, 4, 5]
    tested = next(record for record in RunDir(earlier).read(EVAL) if record["name"] == "test")
    assert len(tested["levels"]) == len(results["levels"])


def test_its_adapter_alone_finds_the_shipped_base(earlier: Path, tmp_path: Path) -> None:
    shutil.move(earlier / "adapter", tmp_path / "alone")
    flags = ["--problems", "2", "--samples", "2", "--k", "1", "--to", str(tmp_path / "scores")]
    assert evaluate.main([str(tmp_path / "alone"), *flags]) == 0


def test_it_is_examined(earlier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([str(earlier)]) == 0
    assert "step 2 of 2" in " ".join(capsys.readouterr().out.split())


def test_the_app_opens_it(earlier: Path) -> None:
    opened = opening.open_run(earlier, earlier.parent)
    assert opened.config.explanation.filters == {"complete", "no_leak", "verified"}  # those that there were
    assert opened.config.policy.model == "tiny" and opened.starts_with() == "earlier"
    (listed,) = list_runs(earlier.parent)
    assert listed.name == "earlier"
    assert load_metrics(RunDir(earlier))["step"].tolist() == [1, 2]
