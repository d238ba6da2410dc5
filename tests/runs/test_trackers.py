"""Trackers: what they are given, that a resumed run goes on in the same place, and that none of them can end a run."""

from __future__ import annotations

import html
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.run_folders import LEARNED, scores
from support.tiny_models import tiny_config
from support.wandb_file import history, settings
from support.whole_runs import INTERRUPTED_RUN, results, start, write_settings

from expo_lite import load_config
from expo_lite.config.read import dump_yaml, read_config
from expo_lite.core.errors import ConfigError
from expo_lite.model.ranks import ALONE, Ranks
from expo_lite.runs import trackers
from expo_lite.runs.environment import version_of
from expo_lite.runs.folder import EVAL, METRICS, SAMPLES, RunDir
from expo_lite.runs.loop import Loop
from expo_lite.runs.trackers import Trackers, hyperparameters, scalars


def needs(*packages: str) -> pytest.MarkDecorator:
    missing = [name for name in packages if version_of(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {' and '.join(missing)}: pip install 'expo-lite[trackers]'")


def sample(step: int, text: str, **more: Any) -> dict[str, Any]:
    return {"step": step, "kind": "rollout", "level": 1, "question": "1+1?", "answer": "2", "text": text, **more}


def step_of(number: int, reward: float) -> list[tuple[str, dict[str, Any]]]:
    """What a step writes, file by file."""
    return [(METRICS, {"step": number, **LEARNED, "reward_mean": reward}), (SAMPLES, sample(number, f"{number}"))]


class Followed:
    """A run without a training: what `write` is given goes to its folder and its trackers, as in `Loop.write`."""

    def __init__(self, folder: Path, *names: str, **more: Any) -> None:
        self.config = tiny_config(run=str(folder), steps=6, evaluation={"every": 3}, trackers=names, **more)
        self.run = RunDir(folder)
        self.said: list[str] = []
        self.trackers = Trackers(self.config, self.run, names, self.said.append)
        if not folder.exists():
            RunDir.create(folder, dump_yaml(self.config)).close()

    def write(self, *records: tuple[str, Mapping[str, Any]]) -> None:
        for file, record in records:
            self.run.append(file, record)
            self.trackers.log(file, [record])


class TestNames:
    def test_metrics_keep_their_names(self) -> None:
        record = {"step": 3, "reward_mean": 0.5, "updates": 1, "kl_nats": None, "gradient_norm": float("inf")}
        assert scalars(METRICS, record) == {"reward_mean": 0.5, "updates": 1}

    def test_scores_are_named_by_set_and_level_and_begin_with_the_base(self) -> None:
        base = scalars(EVAL, scores("base_validation", 0, 0.25, 0.0))
        after = scalars(EVAL, {**scores("validation", 5, 0.5, 0.125), "forgotten_share_max": 0.0})
        assert base["validation/level_1/pass_at_1"] == 0.25
        assert after["validation/level_2/pass_at_1"] == 0.125
        assert set(after) - set(base) == {"validation/forgotten_share_max"}
        assert {name.rpartition("/")[2] for name in base} == {"pass_at_1", "pass_at_k", "truncated_share"}

    def test_settings_are_numbers_and_words(self) -> None:
        found = hyperparameters(tiny_config())
        assert found["rollout.group_size"] == 2 and found["policy.adapter"] == "null"
        assert found["explanation.filters"] == "complete,explains,no_leak,verified"
        assert {type(value) for value in found.values()} <= {bool, int, float, str}


class TestAsking:
    def test_a_missing_package_ends_before_anything_is_loaded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = tmp_path / "settings.yaml"
        config.write_text("policy: {model: /not/looked/for}\n")
        monkeypatch.setattr(trackers, "version_of", {"tensorboard": "2.21"}.get)
        with pytest.raises(ConfigError, match=r"^trackers: needs trackio and wandb, .*: pip install trackio wandb$"):
            start(config, tmp_path / "run", "--trackers", "wandb", "tensorboard", "trackio")
        assert not (tmp_path / "run").exists()

    def test_from_python_and_in_a_file(self, tmp_path: Path) -> None:
        config = load_config("tiny", trackers=["wandb", "tensorboard"])
        assert config.trackers == {"tensorboard", "wandb"}
        (tmp_path / "config.yaml").write_text(dump_yaml(config))
        assert read_config(tmp_path / "config.yaml") == config

    @pytest.mark.parametrize(("ranks", "names"), [(ALONE, {"wandb"}), (Ranks(0, 2), {"wandb"}), (Ranks(1, 2), set())])
    def test_the_first_process_alone_writes(self, ranks: Ranks, names: set[str]) -> None:
        parts: Any = SimpleNamespace(ranks=ranks, problems=SimpleNamespace(digest=str))
        console: Any = None
        assert set(Loop(tiny_config(trackers=["wandb"]), RunDir("run"), parts, console).trackers.names) == names


class Away:
    """Stands for a service that cannot be reached any more."""

    name = "wandb"

    def log(self, *_: Any, **__: Any) -> None:
        raise ConnectionError("the network is away\nwith much advice")

    def finish(self) -> None:
        raise AssertionError("it is left out")


def test_one_that_fails_is_left_out_with_one_warning(tmp_path: Path) -> None:
    followed = Followed(tmp_path / "run")
    with followed.trackers.following(0):
        followed.trackers.started["wandb"] = Away()  # type: ignore[assignment]
        followed.write(*step_of(1, 0.5), *step_of(2, 0.5))
    (said,) = followed.said
    assert "wandb has failed and is left out from here on (ConnectionError: the network is away)" in said
    assert len(followed.run.read(METRICS)) == 2
    assert not (tmp_path / "run" / "trackers.json").exists()


@needs("tensorboard")
class TestTensorBoard:
    def read(self, run: Path) -> Any:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
        return events.Reload()

    def points(self, events: Any, name: str) -> list[tuple[int, float]]:
        return [(event.step, event.value) for event in events.Scalars(name)]

    def texts(self, events: Any, name: str) -> dict[int, str]:
        found = events.Tensors(f"{name}/text_summary")
        return {event.step: event.tensor_proto.string_val[0].decode() for event in found}

    def test_what_is_logged(self, tmp_path: Path) -> None:
        followed = Followed(tmp_path / "run", "tensorboard")
        with followed.trackers.following(0):
            followed.write((EVAL, scores("base_validation", 0, 0.25)))
            for number in range(1, 4):
                followed.write(*step_of(number, number / 4))
            followed.write((EVAL, scores("validation", 3, 0.5)))
        events = self.read(tmp_path / "run")
        assert followed.said == []
        assert self.points(events, "reward_mean") == [(1, 0.25), (2, 0.5), (3, 0.75)]
        assert self.points(events, "validation/level_1/pass_at_1") == [(0, 0.25), (3, 0.5)]
        assert list(self.texts(events, "samples")) == [1, 3]  # of the first step, and where a validation follows
        assert "    seed: 0\n" in self.texts(events, "config")[0]
        assert events.PluginTagToContent("hparams")
        assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1  # a second file would hide the first

    def test_samples_are_shown_as_they_stand(self, tmp_path: Path) -> None:
        from tensorboard.plugin_util import markdown_to_safe_html

        text = "2*3*4 | <b>5</b> _x_ `y`\n$\\boxed{24}$ & [a](b)"
        followed = Followed(tmp_path / "run", "tensorboard")
        with followed.trackers.following(0):
            followed.write((SAMPLES, sample(1, text, reward=0.0, rejected=None)))
        shown = markdown_to_safe_html(self.texts(self.read(tmp_path / "run"), "samples")[1])
        cells = [cell.partition("</td>")[0] for cell in shown.split("<td>")[1:]]
        assert len(cells) == shown.count("<th>") == len(trackers.COLUMNS)
        cell = cells[trackers.COLUMNS.index("text")]
        assert "<br>" in cell and "<b>" not in cell
        assert html.unescape(cell.replace("<br>", "\n")) == text

    def test_steps_that_are_trained_again_replace_the_first_ones(self, tmp_path: Path) -> None:
        """A run that was killed after step 4 goes on from the checkpoint of step 2."""
        followed = Followed(tmp_path / "run", "tensorboard")
        with followed.trackers.following(0):
            for number in range(1, 5):
                followed.write(*step_of(number, 0.25))
        followed = Followed(tmp_path / "run", "tensorboard")
        followed.run.truncate_after(2)
        with followed.trackers.following(2):
            for number in range(3, 6):
                followed.write(*step_of(number, 0.75))
        expected = [(1, 0.25), (2, 0.25), (3, 0.75), (4, 0.75), (5, 0.75)]
        assert self.points(self.read(tmp_path / "run"), "reward_mean") == expected

    def test_one_that_is_added_later_gets_the_earlier_records(self, tmp_path: Path) -> None:
        followed = Followed(tmp_path / "run")
        with followed.trackers.following(0):
            followed.write((EVAL, scores("base_validation", 0, 0.25)), *step_of(1, 0.25), *step_of(2, 0.5))
        followed = Followed(tmp_path / "run", "tensorboard")
        with followed.trackers.following(2):
            followed.write(*step_of(3, 0.75))
        events = self.read(tmp_path / "run")
        assert self.points(events, "reward_mean") == [(1, 0.25), (2, 0.5), (3, 0.75)]
        assert self.points(events, "validation/level_1/pass_at_1") == [(0, 0.25)]
        assert list(self.texts(events, "samples")) == [1, 3]


# A training in a process of its own, where wandb may start and end what it likes.
RUN = """
import sys
from expo_lite.commands import train
from expo_lite.problems import load

load.TRAIN_PROBLEMS = 40  # as INTERRUPTED_RUN

if __name__ == "__main__":
    sys.exit(train.main(sys.argv[1:]))
"""
# The same, in which wandb's own process is killed after the first step.
WITHOUT_ITS_PROCESS = """
import psutil
from expo_lite.runs import loop

record = loop.Loop.record
def record_and_kill(self, report):
    record(self, report)
    if report.step == 1:
        services = [p for p in psutil.Process().children(recursive=True) if "wandb-core" in p.name()]
        assert services
        for process in services:
            process.kill()
loop.Loop.record = record_and_kill
"""


@pytest.fixture
def python(tmp_path: Path) -> Any:
    """Run a script with arguments; wandb is offline, and trackio's data are in the test's folder."""

    def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "script.py"
        script.write_text(code)
        places = {"PYTHONPATH": os.pathsep.join(sys.path), "TRACKIO_DIR": str(tmp_path / "trackio")}
        return subprocess.run(
            [sys.executable, str(script), *arguments],
            capture_output=True, text=True, start_new_session=True, check=False, cwd=tmp_path,
            env={**os.environ, **places, "WANDB_MODE": "offline"},
        )  # fmt: skip

    return run


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.usefixtures("few_tiny_problems")
class TestWholeRuns:
    def test_a_killed_and_resumed_run_with_all_of_them_is_the_same(self, tmp_path: Path, python: Any) -> None:
        names = [name for name in ("tensorboard", "wandb", "trackio") if version_of(name)]
        if not names:
            pytest.skip("needs a tracker: pip install 'expo-lite[trackers]'")
        config, run = write_settings(tmp_path), tmp_path / "run"
        assert start(config, tmp_path / "without")[0] == 0
        argv = ["--preset", "tiny", "--config", str(config), "--run", str(run), "--trackers", *names]
        assert python(INTERRUPTED_RUN, str(int(signal.SIGKILL)), "3", *argv).returncode == -signal.SIGKILL
        ids = json.loads((run / "trackers.json").read_text())
        ended = python(RUN, "--resume", "--run", str(run))
        assert ended.returncode == 0, ended.stderr
        assert "has failed" not in ended.stdout
        assert results(run) == results(tmp_path / "without")
        assert json.loads((run / "trackers.json").read_text()) == ids and set(ids) == set(names)
        if "wandb" in names:
            self.check_wandb(run, ids["wandb"])
        if "trackio" in names:
            self.check_trackio(run, python, f"run-{ids['trackio']}")

    def check_wandb(self, run: Path, run_id: str) -> None:
        """Offline, each session has a file with the id of the run; what was logged before a kill can be lost in it."""
        _, second = sorted((run / "wandb").glob(f"offline-run-*-{run_id}/run-{run_id}.wandb"))
        assert settings(second)["rollout.group_size"] == 2
        rows = {row["_step"]: row for row in history(second)}
        assert list(rows) == [0, 1, 2, 3, 4]  # gone on from step 2
        for record in RunDir(run).read(METRICS):
            logged = {name: value for name, value in record.items() if name != "step" and value is not None}
            assert {name: rows[record["step"]][name] for name in logged} == pytest.approx(logged)
        for record in RunDir(run).read(EVAL):
            level, of = record["levels"][0], record["name"].removeprefix("base_")
            assert rows[record["step"]][f"{of}/level_1/truncated_share"] == level["truncated_share"]
        table = json.loads((second.parent / "files" / rows[3]["samples/path"]).read_text())
        of_step = [record for record in RunDir(run).read(SAMPLES) if record["step"] == 3]
        assert table["columns"] == list(trackers.COLUMNS)
        assert table["data"] == [[record.get(name) for name in trackers.COLUMNS] for record in of_step]

    def check_trackio(self, run: Path, python: Any, name: str) -> None:
        """One run with both sessions; trackio writes twice a second, so what it got before a kill may be missing."""
        code = "from trackio.sqlite_storage import SQLiteStorage as S; import json, sys; p = 'expo-lite'"
        done = python(f"{code}\nprint(json.dumps([S.get_runs(p), S.get_logs(p, sys.argv[1])], default=str))", name)
        runs, rows = json.loads(done.stdout.splitlines()[-1])
        assert runs == [name]
        rewards = {row["step"]: row["reward_mean"] for row in rows if "reward_mean" in row}
        recorded = {record["step"]: record["reward_mean"] for record in RunDir(run).read(METRICS)}
        assert {3: recorded[3], 4: recorded[4]}.items() <= rewards.items() <= recorded.items()
        tables = {row["step"]: row["samples"]["_value"] for row in rows if "samples" in row}
        assert {3, 4} <= set(tables) <= {1, 3, 4}
        assert [entry["text"] for entry in tables[3]] == [
            record["text"] for record in RunDir(run).read(SAMPLES) if record["step"] == 3
        ]

    @needs("wandb")
    def test_a_run_goes_on_without_wandb_whose_process_has_died(self, tmp_path: Path, python: Any) -> None:
        config, run = write_settings(tmp_path), tmp_path / "run"
        ended = python(WITHOUT_ITS_PROCESS + RUN, "--config", str(config), "--run", str(run), "--trackers", "wandb")
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.count("wandb has failed and is left out from here on") == 1
        assert RunDir(run).read_status()["state"] == "finished"
        assert [record["step"] for record in RunDir(run).read(METRICS)] == [1, 2, 3, 4]
