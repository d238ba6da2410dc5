"""Real trainings: a comparison that is interrupted, and every method from its training to all that reads its folder."""

from __future__ import annotations

import html
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from expo_lite.commands import doctor, evaluate, train
from expo_lite.config.flags import as_flags
from expo_lite.config.methods import METHODS, method_of
from expo_lite.config.read import read_config
from expo_lite.runs.folder import METRICS, RunDir
from expo_lite.studies.methods.trials import Outcome

pytestmark = pytest.mark.slow

DATA = ["--data.test-problems", "4", "--data.validation-problems", "4"]


def without_seconds(value: Any) -> Any:
    """A record without what differs from day to day."""
    if isinstance(value, dict):
        return {name: without_seconds(inner) for name, inner in value.items() if name != "seconds"}
    return value


class TestInterrupted:
    def command(self, to: Path) -> list[str]:
        numbers = ["--learning-rates", "5e-4", "--steps", "2", "--problems", "4", "--samples", "2", "--k", "2"]
        methods = ["--methods", "grpo", "expo", "--seeds", "0", "1", "--jobs", "2"]
        own = ["--preset", "tiny", *methods, *numbers, "--to", str(to)]
        return [sys.executable, "-m", "expo_lite", "study", *own, *DATA]

    def finished(self, to: Path) -> dict[Path, float]:
        """The adapters of finished runs, with the time of their writing."""
        runs = [RunDir(path.parent) for path in to.glob("*/status.json")]
        done = [run.adapter for run in runs if run.read_status()["state"] == "finished"]
        return {path: path.stat().st_mtime for path in done}

    @pytest.mark.timeout(1800)
    def test_and_gone_on_with(self, tmp_path: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        to = tmp_path / "interrupted"
        first = subprocess.Popen(self.command(to), env=environment, stdout=subprocess.PIPE, text=True)
        until = time.monotonic() + 600
        while len(self.finished(to)) < 2 and first.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        first.send_signal(signal.SIGTERM)
        said, _ = first.communicate(timeout=120)
        assert first.returncode == 130 and "the same command goes on from there" in " ".join(said.split())
        before = self.finished(to)
        assert 2 <= len(before) < 4 and not (to / "report.md").exists()

        for folder in (to, tmp_path / "undisturbed"):
            ended = subprocess.run(self.command(folder), env=environment, capture_output=True, text=True, check=False)
            assert ended.returncode == 0, ended.stderr
        assert before.items() <= self.finished(to).items()
        reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("interrupted", "undisturbed")]
        assert without_seconds(reports[0]) == without_seconds(reports[1])
        assert list(reports[0]["steps"]) == ["GRPO", "ExP-GRPO"]
        tokens = [seed["generated_tokens"] for line in reports[0]["tokens"].values() for seed in line["seeds"].values()]
        assert max(tokens) < 2 * min(tokens)


@pytest.mark.parametrize("name", METHODS)
def test_a_run_of_every_method_is_read_everywhere(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pandas")  # comes with the extra `app`
    from expo_lite.app.run_list import find_run, list_runs
    from expo_lite.app.runs.board import sample_html, samples_html, scores_html
    from expo_lite.app.runs.curves import curves_html, levels_of, panels, show
    from expo_lite.app.runs.tables import load_evaluations, load_metrics, load_samples, rows_of

    folder = tmp_path / name
    flags = [*as_flags(METHODS[name].settings), *DATA, "--steps", "2", "--rollout.prompts-per-step", "8"]
    assert train.main(["--preset", "tiny", *flags, "--run", str(folder)]) == 0
    run = RunDir(folder)
    assert method_of(read_config(run.config)) == name
    assert evaluate.main([str(folder), "--problems", "2", "--samples", "2", "--k", "1"]) == 0
    assert (folder / "evaluation" / "results.md").is_file()
    capsys.readouterr()
    assert doctor.main([str(folder)]) == 0
    assert capsys.readouterr().out.startswith(f"{folder}: finished, step 2 of 2.")

    outcome = Outcome.of(run)
    assert outcome.generated_tokens > 0 and outcome.seconds > 0 and list(outcome.curve) == [0, 2]
    assert 0 <= outcome.taught_nothing_share <= 1 and 0 <= outcome.rescued_share <= 1

    (listed,) = list_runs(tmp_path)
    assert find_run(tmp_path, name).step == 2 and listed.state == "finished"
    shown = show([listed])
    assert levels_of(shown) == [1, 2, 3, 4, 5] and len(panels(shown, [1, 5])) > 2
    assert name in html.unescape(curves_html(shown, [1, 5])) and scores_html(shown)
    samples = rows_of(load_samples(run))
    assert len(load_metrics(run)) == 2 and [len(r["levels"]) for r in load_evaluations(run)] == [5] * 4
    assert samples_html(samples[:3], listed.config) and sample_html(samples[-1], listed.config)

    assert train.main(["--resume", "--run", str(folder), "--steps", "3"]) == 0
    assert [record["step"] for record in run.read(METRICS)] == [1, 2, 3] and run.read_status()["steps"] == 3
