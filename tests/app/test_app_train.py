"""The Train tab without a browser: its processes, what it reads of a run while it is written, and its views."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.preset_names import CARD_PRESETS
from support.run_folders import scores

from expo_lite.app.chart import Axes, Curve, chart_html, per_cent, thinned
from expo_lite.app.train import live
from expo_lite.app.train import trainings as training
from expo_lite.app.train.charts import MOST_ROWS, charts_html, memory_html, numbers_html, phases_html
from expo_lite.app.train.choice import Prepared, checked_wish, held_by_app, prepare
from expo_lite.app.train.live import FeedPage, Follower, Story, feed
from expo_lite.app.train.process import LOCK, command_of, is_training_command
from expo_lite.app.train.trainings import Trainings, TrainRequest, command_line
from expo_lite.app.train.view import Standing, duration, feed_html, feed_title_html, plan_html, progress_html, sentence
from expo_lite.app.train.watch import Watch
from expo_lite.config.presets import preset_path
from expo_lite.config.read import dump_yaml, read_config
from expo_lite.core.charts import spread
from expo_lite.core.errors import DataError, ExpoLiteError
from expo_lite.memory.budget import budgeted_plan
from expo_lite.memory.plan import CONTEXT_BYTES, GIB
from expo_lite.memory.shapes import find_shape
from expo_lite.runs.folder import _LOCK, EVAL, METRICS, SAMPLES, RunDir
from expo_lite.runs.lock import RunLock

HOSTILE = '<script>alert(1)</script> <img src=x onerror="alert(1)">'
TINY = read_config(preset_path("tiny"))
WISH = TrainRequest("tiny", "expo", 3)

# Stands in for `expo_lite.train`: like it, it takes the folder, says where it is, and ends well after SIGTERM.
FAKE = """
import json, os, signal, sys, time
folder = sys.argv[sys.argv.index("--run") + 1]
print("folder", folder)
if os.environ.get("FAKE_TRAIN") == "fails":
    sys.exit("policy.model: <b>it is not here</b>")
def say(state):
    with open(folder + "/status.json", "w") as file:
        json.dump({"pid": os.getpid(), "state": state, "step": 1, "steps": 100}, file)
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
if "--resume" not in sys.argv:
    open(folder + "/config.yaml", "w").write(open(os.environ["FAKE_CONFIG"]).read())
say("running")
while not stopping:
    time.sleep(0.01)
time.sleep(0.2)
say("stopped" if len(stopping) == 1 else "failed")
"""


def plain(shown: str) -> str:
    """HTML as a reader sees it."""
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", shown)).split())


def until(holds: Callable[[], Any], seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)
    return found


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, also where a test fails in it."""
    process = subprocess.Popen(command)
    try:
        until(lambda: command_of(process.pid)[-1:] == command[-1:])  # until then the system shows its parent's
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainings]:
    """Trainings of the stand-in, in a root that is not there yet."""
    (tmp_path / "config.yaml").write_text(dump_yaml(TINY))
    monkeypatch.setenv("FAKE_CONFIG", str(tmp_path / "config.yaml"))
    (program := tmp_path / "expo-lite").write_text(FAKE)
    manager = Trainings(tmp_path / "runs", [sys.executable, str(program), "train"])
    yield manager
    while (name := manager.active()) is not None:
        if (pid := manager.running(name)) is not None:
            os.kill(pid, signal.SIGKILL)


def state(trainings: Trainings, name: str) -> str:
    standing = Watch(trainings).standing(name)
    return standing.state if standing else "none"


class TestWishes:
    def test_the_command(self) -> None:
        assert command_line(WISH.arguments(Path("my runs/x"))) == (
            "python -m expo_lite.train --preset tiny --explanation.source self --seed 3 --run 'my runs/x'"
        )
        assert [TrainRequest("8gb", method, 0).name for method in ("expo", "expert", "grpo")] == [
            "8gb-expo-seed0",
            "8gb-expert-seed0",
            "8gb-grpo-seed0",
        ]

    @pytest.mark.parametrize(
        "wish",
        [("../tiny", "expo", 0), ("nope", "expo", 0), ("tiny", "expo; rm", 0), ("tiny", None, 0), ("tiny", "expo", -1)],
    )
    def test_what_is_refused(self, wish: tuple[object, object, object]) -> None:
        with pytest.raises(DataError, match=r"\.$"):
            checked_wish(*wish)

    def test_tiny_can_run_anywhere(self) -> None:
        prepared = prepare(checked_wish("tiny", "grpo", 7.0))
        assert prepared.refusal == "" and prepared.config.explanation.source == "none" and prepared.config.seed == 7
        shown = plain(plan_html(prepared))
        assert "Memory plan: 0.90 of 1 GiB on the CPU may be used" in shown
        assert f"Training {prepared.planned.plan.training_peak / 2**30:.2f} GiB" in shown and "It fits." in shown

    @pytest.mark.parametrize("preset", CARD_PRESETS)
    def test_presets_for_a_gpu_say_that_there_is_none(self, preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        prepare.cache_clear()
        prepared = prepare(TrainRequest(preset, "expo", 0))
        prepare.cache_clear()
        assert prepared.refusal.startswith(f"The preset {preset} needs an NVIDIA GPU, and there is none here.")
        assert "on the GPU may be used" in plan_html(prepared) and prepared.planned.fits

    @pytest.mark.parametrize(
        ("held", "words"),
        [
            (0.0, "It fits."),
            (3.0, "It fits: Compare's model holds 3.0 of this GPU's 24.0 GiB, and 21.0 GiB are left."),
            (20.0, "It fits alone, but Compare's model holds 20.0 of this GPU's 24.0 GiB"),
        ],
    )
    def test_what_the_app_holds_on_the_gpu_is_counted(self, held: float, words: str) -> None:
        config = read_config(preset_path("24gb"))
        planned = budgeted_plan(config, find_shape(config.policy.model), 24.0, on_gpu=True)
        assert 4 < planned.plan.peak / GIB < 21
        prepared = Prepared(WISH, "", config, planned, "", card=24.0)
        assert words in plain(plan_html(prepared, held))

    def test_on_a_cpu_the_app_holds_nothing_of_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torch.cuda.is_initialized", lambda: False)
        assert held_by_app() == 0.0
        monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
        monkeypatch.setattr("torch.cuda.memory_reserved", lambda: 2 * GIB)
        assert held_by_app() == pytest.approx((2 * GIB + CONTEXT_BYTES) / GIB)


class TestFirstPage:
    """The page as it is served, before any of its events."""

    def made(self, root: Path) -> dict[str, dict[str, Any]]:
        """By element id: what each component of the tab is served with."""
        gr = pytest.importorskip("gradio")
        from expo_lite.app.context import AppContext
        from expo_lite.app.opening import Opening
        from expo_lite.app.shell import Shell
        from expo_lite.app.train import tab

        with gr.Blocks() as page, gr.Tabs() as tabs:
            tab.build(AppContext(None, Opening(TINY, root), {}), Shell(page, tabs, set(), gr.State("")))  # type: ignore[arg-type]
        props = [component["props"] for component in page.get_config_file()["components"]]
        return {own["elem_id"]: own for own in props if own.get("elem_id")}

    def test_it_can_start_what_it_shows(self, tmp_path: Path) -> None:
        made = self.made(tmp_path)
        shown = [made[f"train-{name}"]["value"] for name in ("preset", "method", "seed")]
        asked = checked_wish(*shown)
        assert prepare(asked).refusal == "" and made["train-start"]["interactive"]
        assert plain(made["train-command"]["value"]).endswith(command_line(asked.arguments(tmp_path / asked.name)))
        assert "It fits." in plain(made["train-plan"]["value"])

    def test_what_cannot_run_here_cannot_be_started(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        monkeypatch.setattr("expo_lite.app.train.tab.FIRST", TrainRequest("8gb", "expo", 0))
        prepare.cache_clear()
        assert not self.made(tmp_path)["train-start"]["interactive"]
        prepare.cache_clear()


class TestTrainings:
    def test_the_lock_is_the_run_folders_own(self) -> None:
        assert LOCK == _LOCK

    def test_one_from_start_to_resumption(self, trainings: Trainings) -> None:
        name = trainings.start(WISH)
        assert name == "tiny-expo-seed3"
        assert trainings.active() == name  # from the first moment on
        until(lambda: state(trainings, name) == "running")
        with pytest.raises(ExpoLiteError, match="room for one at a time"):
            trainings.start(TrainRequest("tiny", "grpo", 0))
        with pytest.raises(ExpoLiteError, match="room for one at a time"):
            trainings.resume(name)
        trainings.stop(name)
        time.sleep(0.1)
        trainings.stop(name)  # a second signal would end it at once, without saving
        assert state(trainings, name) == "stopping"
        until(lambda: trainings.active() is None)
        assert state(trainings, name) == "stopped"
        with pytest.raises(DataError, match="is not running"):
            trainings.stop(name)
        trainings.resume(name)
        until(lambda: state(trainings, name) == "running")
        log = trainings.log(name).read_text()
        assert log.count("$ python -m expo_lite.train") == 2 and f"--resume --run {trainings.root / name}" in log

    def test_another_app_finds_it_and_can_stop_it(self, trainings: Trainings) -> None:
        name = trainings.start(WISH)
        until(lambda: state(trainings, name) == "running")
        other = Trainings(trainings.root)
        assert other.active() == name and state(other, name) == "running"
        with pytest.raises(ExpoLiteError, match=f"{name} is being trained"):
            other.start(WISH)
        other.stop(name)
        until(lambda: trainings.active() is None)
        assert state(Trainings(trainings.root), name) == "stopped"

    def test_it_gives_way_to_those_who_compare(self, trainings: Trainings) -> None:
        pid = trainings.running(trainings.start(WISH))
        assert pid is not None and os.getpriority(os.PRIO_PROCESS, pid) == training.NICENESS
        assert os.getsid(pid) == pid  # the app's Ctrl-C does not reach it

    def test_a_taken_name_gets_a_number(self, trainings: Trainings) -> None:
        (trainings.root / WISH.name).mkdir(parents=True)
        (trainings.root / f"{WISH.name}-2").mkdir()
        assert trainings.start(WISH) == f"{WISH.name}-3"

    def test_one_that_cannot_start_leaves_its_last_words_only(
        self, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAKE_TRAIN", "fails")
        name = trainings.start(WISH)
        until(lambda: trainings.active() is None)
        assert not (trainings.root / name).exists()
        standing = Watch(trainings).standing(name)
        assert standing is not None and standing.state == "lost" and not standing.can_resume
        assert standing.last_words.endswith("policy.model: <b>it is not here</b>")
        shown = progress_html(standing, Story())
        assert "It could not start." in shown and "<b>it" not in shown and "it is not here" in plain(shown)

    def test_one_that_was_killed_is_lost_and_can_be_resumed(self, trainings: Trainings) -> None:
        name = trainings.start(WISH)
        until(lambda: state(trainings, name) == "running")
        os.kill(trainings.running(name) or 0, signal.SIGKILL)
        until(lambda: trainings.active() is None)
        standing = Watch(trainings).standing(name)
        assert standing is not None and standing.state == "lost" and standing.can_resume
        assert "folder" in standing.last_words

    @pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc", "a/b", "x\0y", "not-there"])
    def test_names_of_anything_else_are_refused(self, trainings: Trainings, name: str) -> None:
        for act in (trainings.stop, trainings.resume):
            with pytest.raises(DataError):
                act(name)
        assert Watch(trainings).standing(name) is None
        assert trainings.running(name) is None

    def test_another_app_does_not_stop_it_again(self, trainings: Trainings) -> None:
        name = trainings.start(WISH)
        until(lambda: state(trainings, name) == "running")
        other = Trainings(trainings.root, trainings._program)
        trainings.stop(name)
        time.sleep(0.1)  # two signals at once would be counted as one
        other.stop(name)
        assert state(other, name) == "stopping"
        until(lambda: trainings.active() is None)
        assert state(trainings, name) == state(other, name) == "stopped"  # the stand-in says failed after two
        other.resume(name)
        until(lambda: state(trainings, name) == "running")
        assert list(trainings.root.glob(".*")) == []  # the note of the earlier stop is gone
        other.stop(name)
        until(lambda: other.active() is None)
        assert state(trainings, name) == "stopped"

    def test_a_number_that_another_process_has_by_now_is_no_training(self, trainings: Trainings) -> None:
        (folder := trainings.root / "old").mkdir(parents=True)
        for command in (["sleep", "30"], [*trainings._program, "--run", str(trainings.root / "another")]):
            (trainings.root / "another").mkdir(exist_ok=True)
            with started(command) as process:
                (folder / LOCK).write_text(f"{process.pid}\n")
                assert trainings.running("old") is None and state(trainings, "old") == "none"
                with pytest.raises(DataError, match="is not running"):
                    trainings.stop("old")
                assert process.poll() is None
            assert command_of(process.pid) == []

    def test_one_from_a_terminal_is_known_by_its_lock(self, trainings: Trainings) -> None:
        """Its command need not name the folder, as `--preset tiny` alone does not."""
        (folder := trainings.root / WISH.name).mkdir(parents=True)
        command = [*trainings._program, "--run", str(folder), "--seed", "3"]
        with started(command) as process:
            until(lambda: (folder / "status.json").is_file())
            lock = RunLock(folder / LOCK)  # here instead of there; its text is the reader's own pid
            (folder / LOCK).write_text(f"{process.pid}\n")
            assert trainings.running(WISH.name) == process.pid and trainings.active() == WISH.name
            lock.release()
            assert trainings.running(WISH.name) is None

    def test_of_two_users_who_start_at_once_one_is_refused(
        self, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        at_once, fresh_name = threading.Barrier(2), trainings.fresh_name

        def slowly(asked: TrainRequest) -> str:
            time.sleep(0.3)  # the other is sure to ask meanwhile
            return fresh_name(asked)

        def start(seed: int) -> bool:
            at_once.wait(60)
            try:
                return bool(trainings.start(TrainRequest("tiny", "expo", seed)))
            except ExpoLiteError:
                return False

        monkeypatch.setattr(trainings, "fresh_name", slowly)
        with ThreadPoolExecutor(2) as users:
            assert sorted(users.map(start, (1, 2))) == [False, True]

    @pytest.mark.parametrize(
        ("command", "is_one"),
        [
            ("/usr/bin/python3 -m expo_lite.train --preset tiny", True),
            ("/v/bin/python /v/bin/expo-lite train --preset tiny", True),
            ("vim /home/me/expo-lite/expo_lite/train.py", False),
            ("expo-lite plan --run train", False),
        ],
    )
    def test_what_a_training_looks_like(self, command: str, is_one: bool) -> None:
        assert is_training_command(command.split()) == is_one


# ---------------------------------------------------------------------------------------------------- a run's records


def rollout(step: int, number: int, level: int, group: str, text: str = "1+1=3") -> dict[str, Any]:
    problem = {"problem": f"p{number}", "level": level, "question": f"What is {number}?", "answer": "42"}
    rates = {"pass_rate": {"solved": 1.0, "mixed": 0.5}.get(group, 0.0), "group": group}
    return {"step": step, **problem, "verdict": "wrong", "text": text, "kind": "rollout", **rates}


def explanation(step: int, number: int, text: str, trained: bool, rejected: str | None = None) -> dict[str, Any]:
    return {**rollout(step, number, 5, "", text), "kind": "explanation", "rejected": rejected, "trained": trained}


def metric(step: int, **more: float) -> dict[str, float]:
    seconds = {"generate_seconds": 1.0, "verify_seconds": 0.0, "explain_seconds": 0.5, "train_seconds": 0.5}
    return {"step": step, "reward_mean": step / 10, "failed_groups": 2, "rescued_groups": 1, **seconds, **more}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Two steps: level 5 fails twice, and then one of two problems is solved by half of the attempts."""
    folder = RunDir(tmp_path / "tiny-run")
    folder.path.mkdir()
    folder.config.write_text(dump_yaml(TINY))
    folder.append(METRICS, *[metric(1), metric(2)])
    folder.append(EVAL, *[scores("base_validation", 0, 1.0, 0.0), scores("base_test", 0, 0.9, 0.1)])
    folder.append(EVAL, scores("validation", 2, 0.9, 0.25))
    records = [rollout(1, 1, 1, "solved"), rollout(1, 2, 5, "failed"), rollout(1, 3, 5, "failed", HOSTILE)]
    records += [explanation(1, 2, "first way", True), explanation(1, 3, "no way", False, "leak")]
    records += [rollout(2, 4, 5, "mixed"), rollout(2, 5, 5, "failed", "wrong way")]
    records += [explanation(2, 5, "told way", False, "unverified"), explanation(2, 5, "right way", True)]
    folder.append(SAMPLES, *records)
    return folder


class TestStory:
    def test_records_of_another_version_are_passed_over(self, run: RunDir) -> None:
        run.append(SAMPLES, {"step": 2, "kind": "rollout"})
        assert Follower(run).look().step == 2

    def test_the_curves(self, run: RunDir) -> None:
        story = Follower(run).look()
        assert live.passed_by_level(story) == {1: [(1, 1.0)], 5: [(1, 0.0), (2, 0.125)]}  # half of one in four
        assert live.held_out_by_level(story) == {1: [(0, 1.0), (2, 0.9)], 2: [(0, 0.0), (2, 0.25)]}
        assert live.averaged(story, "reward_mean") == [(1, 0.1), (2, pytest.approx(0.15))]
        assert live.total(story, "failed_groups") == 4
        assert live.seconds_by_phase(story) == {"generate": 1.0, "verify": 0.0, "explain": 0.5, "train": 0.5}
        assert live.seconds_left(story, 100) == 196.0
        assert live.peak_gib(story) is None

    def test_only_what_is_new_is_read(self, run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
        follower = Follower(run)
        follower.look()
        read: list[str] = []
        loads = json.loads
        monkeypatch.setattr(json, "loads", lambda line: read.append(line) or loads(line))
        assert follower.look().step == 2 and read == []
        run.append(METRICS, metric(3))
        with open(run.path / METRICS, "a") as file:
            file.write('{"step": 4, "rew')  # being written
        assert follower.look().step == 3 and len(read) == 1
        with open(run.path / METRICS, "a") as file:
            file.write('ard_mean": 0.5}\n')
        assert follower.look().step == 4

    def test_a_resumed_runs_dropped_records_are_forgotten(self, run: RunDir) -> None:
        follower = Follower(run)
        assert follower.look().step == 2
        run.truncate_after(1)
        story = follower.look()
        assert story.step == 1 and live.passed_by_level(story)[5] == [(1, 0.0)]

    def test_a_folder_without_records(self, tmp_path: Path) -> None:
        story = Follower(RunDir(tmp_path / "none")).look()
        assert (story.step, live.seconds_left(story, 9), feed(story, True).total) == (0, None, 0)

    def test_only_the_newest_failed_problems_are_kept(self, run: RunDir) -> None:
        run.append(SAMPLES, *[rollout(step, 1, 5, "failed") for step in range(3, 3 + live.MOST_KEPT)])
        run.append(SAMPLES, *[rollout(900, n, 1, "solved") for n in range(9)])
        run.append(METRICS, metric(900))
        story = Follower(run).look()
        assert len(story.failed) == live.MOST_KEPT and min(step for step, _ in story.failed) == 3
        page = feed(story, running=False)
        assert (page.total, page.is_cut) == (live.MOST_KEPT, True)
        assert f"1\N{EN DASH}3 of the newest {live.MOST_KEPT}, newest first" in feed_title_html(page, "none")

    def test_the_feed_shows_the_rescued_newest_first(self, run: RunDir) -> None:
        shown = feed(Follower(run).look(), running=False).prompts
        assert [(p.step, p.question, p.rescuer) for p in shown] == [
            (2, "What is 5?", "right way"),
            (1, "What is 2?", "first way"),
        ]
        assert shown[0].rejected == [("unverified", "told way")]

    def test_the_feed_keeps_still_for_some_steps(self, run: RunDir) -> None:
        records = [r for n in range(3, 9) for r in (rollout(n, n, 5, "failed"), explanation(n, n, "way", True))]
        run.append(SAMPLES, *records)
        run.append(METRICS, *[metric(n) for n in range(3, 9)])  # 2 s a step: it moves every third
        story = Follower(run).look()
        assert [p.step for p in feed(story, running=True).prompts] == [6, 5, 4]
        assert [p.step for p in feed(story, running=False).prompts] == [8, 7, 6]

    def test_all_that_were_rescued_can_be_paged_through(self, run: RunDir) -> None:
        """Eight: of steps 1 to 8, and a page stays what it is while newer ones come."""

        def steps(page: FeedPage) -> list[int]:
            return [prompt.step for prompt in page.prompts]

        def rescued(n: int) -> list[dict[str, Any]]:
            return [rollout(n, n, 5, "failed"), explanation(n, n, "way", True)]

        run.append(SAMPLES, *[record for n in range(3, 9) for record in rescued(n)])
        run.append(METRICS, *[metric(n) for n in range(3, 9)])
        follower = Follower(run)
        first = feed(follower.look(), False)
        assert (steps(first), first.place, first.total, first.newer) == ([8, 7, 6], 1, 8, None)
        second = feed(follower.look(), False, first.older or 0)
        assert (steps(second), second.place, second.newer) == ([5, 4, 3], 4, live.NEWEST)
        last = feed(follower.look(), False, second.older or 0)
        assert (steps(last), last.place, last.older, last.newer) == ([2, 1], 7, None, first.older)
        run.append(SAMPLES, *rescued(9))
        run.append(METRICS, metric(9))
        second = feed(follower.look(), False, first.older or 0)
        assert (steps(second), second.place, second.newer) == ([5, 4, 3], 5, 8)
        assert "5\N{EN DASH}7 of 9, newest first" in feed_title_html(second, "self")


class TestViews:
    def test_charts_say_their_latest_numbers(self, run: RunDir) -> None:
        spoken = re.findall('aria-label="([^"]*)"', charts_html(TINY, Follower(run).look()))
        assert spoken == [
            "Training problems, pass rate. Latest: L1 100 %; L5 12 %.",
            "Held-out problems, pass rate. Latest: L1 90 %; L2 25 %.",
            "Problems where every attempt failed. Latest: failed 2; rescued 1.",
            "Reward. Latest: reward 0.15.",
        ]

    def test_before_the_first_step_charts_say_so(self) -> None:
        shown = charts_html(TINY, Story())
        assert shown.count("<figure") == shown.count("come with the first step") == 1
        scored = charts_html(TINY, Story(scores=[scores("base_validation", 0, 1.0, 0.0)]))
        assert scored.count("<figure") == 2 and "Latest: L1 100 %; L2 0 %." in scored
        assert charts_html(None, Story()) == ""

    def test_the_curves_as_numbers(self, run: RunDir) -> None:
        shown = numbers_html(Follower(run).look())
        rows = [plain(row) for row in re.findall("<tr>(.*?)</tr>", shown)]
        assert rows == [
            "Step L1 L5 failed rescued reward",
            "2 100 % 12 % 2.0 1.0 0.15",  # no problem of level 1 in this step: it stands where it stood
            "1 100 % 0 % 2.0 1.0 0.10",
        ]
        run.append(METRICS, *[metric(step) for step in range(3, 1000)])
        story = Follower(run).look()
        assert '<tr><th scope="row">999</th>' in numbers_html(story)
        assert numbers_html(story).count("<tr>") - 1 <= MOST_ROWS and numbers_html(Story()) == ""

    def test_phases_are_not_told_by_colour_alone(self) -> None:
        shown = plain(phases_html({"generate": 1.5, "verify": 0.0, "explain": 0.5, "train": 2.0}))
        assert "generate 1.50 s 38 % verify 0.00 s 0 % explain 0.50 s 12 % train 2.00 s 50 %" in shown

    def test_memory_is_measured_on_a_gpu_and_planned_on_a_cpu(self, run: RunDir) -> None:
        assert "Planned only" in memory_html(TINY, Follower(run).look())
        run.append(METRICS, *[metric(3, peak_reserved_gib=0.75), metric(4, peak_reserved_gib=0.5)])
        assert "of 1 GiB Peak 0.75 GiB" in plain(memory_html(TINY, Follower(run).look()))

    @pytest.mark.parametrize(
        ("state", "words"),
        [
            ("starting", "Loading the model, to go on after step 2 of 100."),
            ("running", "Training: step 2 of 100, about 3 min left."),
            ("stopping", "it saves after the step under way"),
            ("finished", "Finished: step 2 of 100"),
            ("stopped", "Stopped after step 2 of 100; saved, and ready to be resumed."),
            ("failed", "Failed after step 2 of 100"),
            ("lost", "Ended without a word after step 2 of 100"),
        ],
    )
    def test_where_it_stands(self, run: RunDir, state: str, words: str) -> None:
        assert words in sentence(Standing("tiny-run", state, TINY), Follower(run).look())

    def test_numbers_and_bar(self, run: RunDir) -> None:
        shown = progress_html(Standing("tiny-run", "running", TINY), Follower(run).look())
        assert "<h3>tiny&#45;run &#183; ExPO</h3>" in shown
        assert 'aria-valuemax="100" aria-valuenow="2"' in shown and "width:2.0%" in shown
        assert "4 times every attempt failed 2 rescued by an explanation 0.15 reward now" in plain(shown)

    def test_what_models_wrote_is_harmless(self, run: RunDir) -> None:
        run.append(SAMPLES, *[rollout(3, 9, 5, "failed", HOSTILE), explanation(3, 9, HOSTILE, True)])
        run.append(METRICS, metric(3))
        shown = feed_html(feed(Follower(run).look(), False).prompts, "self")
        assert "<script" not in shown and "<img" not in shown and plain(shown).count(HOSTILE) == 2

    def test_a_feed_in_words(self, run: RunDir) -> None:
        page = feed(Follower(run).look(), False)
        assert "Rescued: every attempt failed, an explanation taught the way" in feed_title_html(page, "self")
        assert "the data&#39;s solution" in feed_title_html(page, "expert").replace("'", "&#39;")
        newest, _ = feed_html(page.prompts, "self").split("\n\n")
        assert plain(newest) == (
            "What is 5? answer 42 · level 5 · step 2 ✗ One of its wrong attempts wrong way ✓ Its own explanation, "
            "learned from right way – Turned down: it does not arrive at the answer told way"
        )

    def test_each_reason_to_turn_explanations_down_is_named_with_its_texts(self, run: RunDir) -> None:
        down = [("one way", "unverified"), (HOSTILE, "leak"), ("third way", "unverified")]
        run.append(SAMPLES, *[explanation(2, 5, text, False, reason) for text, reason in down])
        newest = feed_html(feed(Follower(run).look(), False).prompts, "self").split("\n\n")[0]
        cells = [plain(cell) for cell in newest.split('<div class="live-cell rejected">')[1:]]
        assert cells == [
            "– Turned down: it does not arrive at the answer (3) told way 2 more one way third way",
            f"– Turned down: it betrays that the answer was told {HOSTILE}",
        ]
        assert newest.count("<details>") == 1 and "<script" not in newest

    def test_grpo_rescues_nobody(self) -> None:
        story = Story()
        for record in (rollout(1, 1, 5, "failed"), rollout(1, 2, 1, "solved")):
            live._add_sample(story, record)
        story.metrics.append(metric(1, rescued_groups=0))
        page = feed(story, False)
        assert "Not rescued: every attempt failed, so GRPO had" in feed_title_html(page, "none")
        assert "<h3>Not rescued: every attempt failed</h3>" in feed_title_html(page, "self")  # not yet, or not at all
        assert feed_title_html(feed(Story(), False), "self") == ""

    @pytest.mark.parametrize(("seconds", "words"), [(0.2, "1 s"), (89, "89 s"), (150, "2 min"), (9000, "2.5 h")])
    def test_durations(self, seconds: float, words: str) -> None:
        assert duration(seconds) == f"about {words}"

    def test_names_do_not_cover_each_other(self) -> None:
        assert spread([0, 0, 0, 100, 100]) == [0, 10, 20, 90, 100]
        assert spread([50, 10]) == [50, 10]

    def test_long_curves_are_thinned_but_end_where_they_end(self) -> None:
        points = [(float(n), 0.5) for n in range(5001)]
        assert len(thinned(points)) < 300 and thinned(points)[-1] == points[-1]

    def test_a_curve_lies_where_its_numbers_say(self) -> None:
        line = Curve("a<b", "s1", [(0, 0), (50, 0.5), (100, 2.0)])  # beyond the top it stays at the top
        shown = chart_html("T", "n", [line], Axes(100, 1.0, (0, 1), per_cent))
        assert 'd="M0 1000L500 500L1000 0"' in shown and "a<b" not in shown


class TestWatch:
    def test_what_was_seen_is_not_made_again(self, run: RunDir) -> None:
        watch = Watch(Trainings(run.path.parent))
        first = watch.look("tiny-run")
        assert first is not None and watch.look("tiny-run", first.stamp) is None
        run.append(METRICS, metric(3))
        later = watch.look("tiny-run", first.stamp)
        assert later is not None and "step 3 of 100" in later.progress

    def test_who_reads_a_long_run_keeps_no_other_waiting(self, run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
        shutil.copytree(run.path, run.path.with_name("long-run"))
        watch = Watch(Trainings(run.path.parent))
        begun, go_on, look = threading.Event(), threading.Event(), Follower.look

        def slow(self: Follower) -> Story:
            if self._run.path.name == "long-run":
                begun.set()
                assert go_on.wait(60)
            return look(self)

        monkeypatch.setattr(Follower, "look", slow)
        with ThreadPoolExecutor(2) as users:
            long = users.submit(watch.look, "long-run")
            assert begun.wait(60)
            try:
                shown = users.submit(watch.look, "tiny-run").result(60)
            finally:
                go_on.set()
            assert shown is not None and not long.cancelled() and long.result(60) is not None

    def test_a_look_at_nothing(self, tmp_path: Path) -> None:
        shown = Watch(Trainings(tmp_path / "none")).look("")
        assert shown is not None and "No run yet" in shown.progress and shown.charts == shown.feed.problems == ""

    def test_a_resumption_that_failed_is_not_called_stopped(self, run: RunDir) -> None:
        (run.path / "status.json").write_text(json.dumps({"pid": 1, "state": "stopped", "step": 2}))
        (run.path / _LOCK).write_text("999999999\n")  # a later process, gone since
        standing = Watch(Trainings(run.path.parent)).standing("tiny-run")
        assert standing is not None and standing.state == "lost"


class TestTab:
    @pytest.fixture
    def events(self, run: RunDir) -> Iterator[dict[str, Any]]:
        """The tab's events by the names of their functions."""
        gr = pytest.importorskip("gradio")
        from expo_lite.app.context import AppContext
        from expo_lite.app.opening import Opening
        from expo_lite.app.shell import Shell
        from expo_lite.app.train import tab
        from expo_lite.app.worker import ModelWorker

        context = AppContext(ModelWorker(lambda: None), Opening(TINY, run.path.parent), {})  # type: ignore[arg-type]
        with gr.Blocks() as page, gr.Tabs() as tabs, gr.Tab("Train live", id="train"):
            tab.build(context, Shell(page, tabs, {"train"}, gr.State("")))
        yield {one.name: one for one in page.fns.values()}
        context.worker.close()

    def test_what_was_said_of_a_stop_goes_when_the_run_has_ended(self, events: dict[str, Any]) -> None:
        """It is told to who cannot see the run's head, where it stands."""
        said, *_ = events["tick"].fn("tiny-run", live.NEWEST, "")
        assert "unseen" in said and plain(said) == "Ended without a word after step 2 of 100. Its last words are below."
        assert events["tick"].fn("tiny-run", live.NEWEST, events["tick"].fn("tiny-run", live.NEWEST, "")[-1])[0] != said
        refused, *_ = events["acted"].fn("tiny-run", live.NEWEST)
        assert "unseen" not in refused and plain(refused)

    def test_after_a_start_the_command_is_that_of_the_run(
        self, events: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Trainings, "start", lambda self, asked: self.fresh_name(asked))
        said, command, *_ = events["start"].fn("tiny", "expo", 3)
        assert f"{WISH.name} has begun." in plain(said)
        assert f"The command that runs {WISH.name} " in plain(command)
        assert plain(command).endswith(f"/{WISH.name}")
        after = [one for one in events.values() if one.trigger_after == events["start"]._id]
        assert all(one.fn is None for one in after)  # no other command takes its place

    def test_a_page_of_rescued_problems(self, events: dict[str, Any], run: RunDir) -> None:
        more = [r for n in range(3, 9) for r in (rollout(n, n, 5, "failed"), explanation(n, n, "way", True))]
        run.append(SAMPLES, *more)
        run.append(METRICS, *[metric(n) for n in range(3, 9)])
        page, title, newer, older, problems = events["turn"].fn("tiny-run", live.NEWEST)
        assert page == 5 and "4\N{EN DASH}6 of 8" in title and newer.interactive and older.interactive
        assert re.findall(r"step (\d)", plain(problems)) == ["5", "4", "3"]


@pytest.mark.slow
def test_the_tiny_preset_for_real(tmp_path: Path) -> None:
    """Two steps of the real program: the app finds its lock, status, records and end."""
    small = [
        "--steps",
        "2",
        "--data.test-problems",
        "1",
        "--data.validation-problems",
        "1",
        "--evaluation.samples",
        "1",
    ]
    (program := tmp_path / "expo-lite").write_text(
        f"import sys\nfrom expo_lite.train import main\nsys.exit(main(sys.argv[2:] + {small}))\n"
    )
    trainings = Trainings(tmp_path / "runs", [sys.executable, str(program), "train"])
    watch = Watch(trainings)
    name = trainings.start(WISH)
    until(lambda: trainings.active() is None, seconds=120)
    shown = watch.look(name)
    assert shown is not None and shown.standing is not None
    assert shown.standing.state == "finished", trainings.last_words(name)
    assert "step 2 of 2" in shown.progress and "L5 0 %" in shown.charts and "learned from" in shown.feed.problems
