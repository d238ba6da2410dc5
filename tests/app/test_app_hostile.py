"""What users cannot make the tabs Train, Runs and "Will it fit?" do or say: links, places, and a megabyte of text.

As a server, without a model; no browser.
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas")  # comes with the extra `app`
from test_app_runs import make_run

from expo_lite.app.fit.answer import fit, preset_values
from expo_lite.app.opening import open_run
from expo_lite.app.places import lies_in, without_places
from expo_lite.app.run_list import find_run, list_runs
from expo_lite.app.runs.tables import load_metrics
from expo_lite.app.train.trainings import Trainings, TrainRequest
from expo_lite.app.train.view import progress_html
from expo_lite.app.train.watch import Watch
from expo_lite.config.settings import Config
from expo_lite.core.errors import ConfigError, DataError, ExpoLiteError
from expo_lite.runs.folder import METRICS

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
MEGABYTE = "7" * 1_000_000
SHORT = 400
"""Characters of the longest sentence that refuses something."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs: a sound one, one with a damaged line, one of another version, and a link to one outside."""
    place = tmp_path_factory.mktemp("places")
    root = place / "runs"
    make_run(root, "mine")
    make_run(place / "outside", "secret")
    for name, line in (("torn", "{\n{}\n"), ("other", '{"reward_mean": 1}\n')):
        (make_run(root, name).path / METRICS).write_text(line, encoding="utf-8")
    (root / "linked").symlink_to(place / "outside" / "secret")
    return root


@pytest.fixture(scope="module")
def url(root: Path) -> Iterator[str]:
    """The three tabs that need no model."""
    gr = pytest.importorskip("gradio")
    from expo_lite.app.context import AppContext
    from expo_lite.app.fit import tab as fit_tab
    from expo_lite.app.opening import Opening
    from expo_lite.app.runs import tab as runs_tab
    from expo_lite.app.shell import Shell
    from expo_lite.app.train import tab as train_tab
    from expo_lite.app.worker import ModelWorker

    worker = ModelWorker(lambda: None)
    with gr.Blocks() as page, gr.Tabs() as tabs:
        context = AppContext(worker, Opening(Config(), root), {})  # type: ignore[arg-type]
        for tab in (runs_tab, train_tab, fit_tab):
            with gr.Tab(tab.__name__, id=tab.__name__):
                tab.build(context, Shell(page, tabs, set(), gr.State("")))
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True)
    yield address
    page.close()
    worker.close()


@pytest.fixture(scope="module")
def client(url: str) -> Any:
    return pytest.importorskip("gradio_client").Client(url, verbose=False)


def refused(client: Any, api_name: str, **asked: Any) -> str:
    """The sentence by which a call is refused."""
    with pytest.raises(Exception) as error:
        client.predict(api_name=api_name, **asked)
    return str(error.value)


class TestPlaces:
    @pytest.mark.parametrize(("name", "sentence"), [("torn", "is no JSON record"), ("other", "step is missing")])
    def test_a_damaged_file_is_named_without_its_place(self, root: Path, client: Any, name: str, sentence: str) -> None:
        said = [refused(client, "/metrics", run=name)]
        with pytest.raises(DataError) as error:
            load_metrics(find_run(root, name).folder)
        for words in [*said, str(error.value)]:
            assert sentence in words and f"{name}/{METRICS}" in words and str(root.parent) not in words

    def test_a_file_that_cannot_be_opened(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run = make_run(tmp_path, "mine")

        def closed(*_: object) -> None:
            raise PermissionError(13, "Permission denied", str(run.path / METRICS))

        monkeypatch.setattr("expo_lite.app.runs.tables.Tail.new", closed)
        with pytest.raises(DataError, match=rf"^mine/{METRICS} cannot be read \(Permission denied\)$"):
            load_metrics(run)

    @pytest.mark.parametrize("name", ["linked", "not-there", ".."])
    def test_what_is_no_run_is_refused_without_the_root(self, root: Path, client: Any, name: str) -> None:
        for api_name in ("/metrics", "/samples"):
            said = refused(client, api_name, run=name)
            assert said == f"There is no run {name!r}."

    def test_a_failed_trainings_last_words(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        home = tmp_path / "home"
        monkeypatch.setenv("HOME", str(home))
        trainings = Trainings(home / "the runs")
        trainings.root.mkdir(parents=True)
        lines = [
            f"$ python -m expo_lite.train --run {trainings.root}/mine",
            f'  File "{home}/src/expo_lite/train.py", line 3, in main',
            '  File "/opt/env/lib/python3/site-packages/torch/nn.py", line 3',
            f"{trainings.root}/mine cannot be used as a run's folder; 1/2/3 of https://example.org/a/b",
        ]
        (trainings.root / "mine.log").write_text("\n".join(lines), encoding="utf-8")
        standing = Watch(trainings).standing("mine")
        assert standing is not None and standing.last_words.splitlines() == [
            '  File "~/src/expo_lite/train.py", line 3, in main',
            '  File "…/nn.py", line 3',
            "./mine cannot be used as a run's folder; 1/2/3 of https://example.org/a/b",
        ]
        assert str(tmp_path) not in progress_html(standing, Watch(trainings)._follow("mine").look())

    def test_a_neighbours_path_is_not_taken_for_the_roots(self, tmp_path: Path) -> None:
        assert without_places(f"{tmp_path}/a {tmp_path}-b {tmp_path}.", tmp_path) == f"./a …/{tmp_path.name}-b .."

    def test_a_root_that_cannot_be_written_is_not_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ExpoLiteError, match=r"No run can be written to the folder of runs \(Not a directory\)"):
            Trainings(tmp_path / "file").start(TrainRequest("tiny", "expo", 0))


class TestLinks:
    """What lies elsewhere is not shown, also where a link below the root leads to it."""

    @pytest.fixture
    def places(self, tmp_path: Path) -> tuple[Path, Path]:
        """A root, and a run outside of it."""
        make_run(tmp_path / "root", "mine", at=1.0)
        outside = make_run(tmp_path / "outside", "secret").path
        (outside / "adapter").mkdir()
        (outside / "adapter" / "weights").touch()
        return tmp_path / "root", outside

    def unseen(self, root: Path, name: str) -> None:
        assert [run.name for run in list_runs(root)] == ["mine"]
        with pytest.raises(DataError, match="There is no run"):
            find_run(root, name)
        trainings = Trainings(root)
        assert Watch(trainings).standing(name) is None and trainings.running(name) is None
        for act in (trainings.stop, trainings.resume):
            with pytest.raises(DataError, match=r"There is no run|is not running"):
                act(name)

    def test_a_folder_elsewhere(self, places: tuple[Path, Path]) -> None:
        root, outside = places
        (root / "linked").symlink_to(outside)
        self.unseen(root, "linked")

    @pytest.mark.parametrize("entry", ["metrics.jsonl", "samples.jsonl", "config.yaml", "status.json", "adapter"])
    def test_a_run_with_a_part_elsewhere(self, places: tuple[Path, Path], entry: str) -> None:
        root, outside = places
        run = make_run(root, "half", at=2.0).path
        (run / entry).unlink(missing_ok=True)
        (run / entry).symlink_to(outside / entry)
        self.unseen(root, "half")
        with pytest.raises(ConfigError, match="linked to files elsewhere"):
            open_run(run, None)

    def test_an_adapter_with_weights_elsewhere(self, places: tuple[Path, Path]) -> None:
        root, outside = places
        run = make_run(root, "half", at=2.0).path
        (run / "adapter").mkdir()
        (run / "adapter" / "weights").symlink_to(outside / "adapter" / "weights")
        self.unseen(root, "half")

    def test_a_log_elsewhere(self, places: tuple[Path, Path]) -> None:
        root, outside = places
        (outside / "log").write_text("$ python -m x\nsecret\n", encoding="utf-8")
        (root / "gone.log").symlink_to(outside / "log")
        assert Trainings(root).last_words("gone") == ""

    def test_links_within_the_root_and_a_root_that_is_one(self, places: tuple[Path, Path]) -> None:
        root, outside = places
        run = make_run(root, "half", at=2.0).path
        (run / "best").mkdir()
        (run / "notes").symlink_to(root / "mine" / "config.yaml")
        (run / "adapter").symlink_to(run / "best")
        (outside / "root").symlink_to(root)
        assert [run.name for run in list_runs(outside / "root")] == ["half", "mine"]
        assert find_run(outside / "root", "half").adapter is not None
        assert open_run(outside / "root" / "half", outside / "root").root == outside / "root"

    def test_links_in_a_circle(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to(tmp_path / "b")
        (tmp_path / "b").symlink_to(tmp_path / "a")
        assert not lies_in(tmp_path, "a") and list_runs(tmp_path) == []


def sent(url: str, event: int, values: list[Any]) -> tuple[int, str]:
    """What the page itself would send: status and reply."""
    body = json.dumps({"fn_index": event, "data": values, "session_hash": "x"}).encode()
    request = urllib.request.Request(f"{url}gradio_api/run/predict", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return int(reply.status), reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class TestMegabytes:
    @pytest.mark.parametrize(
        ("api_name", "asked", "sentence"),
        [
            *((name, {"run": MEGABYTE}, "There is no run") for name in ("/metrics", "/samples")),
            *((name, {"run": "mine", "offset": MEGABYTE}, "offset: should be") for name in ("/metrics", "/samples")),
            *((name, {"run": "mine", "limit": MEGABYTE}, "limit: should be") for name in ("/metrics", "/samples")),
            *((name, {"run": 7}, "There is no run") for name in ("/metrics", "/samples")),
            ("/samples", {"run": "mine", "kind": MEGABYTE}, "kind: should be"),
            ("/samples", {"run": "mine", "kind": ["x"]}, "kind: should be"),
            ("/samples", {"run": "mine", "level": MEGABYTE}, "level: should be"),
            ("/samples", {"run": "mine", "correct": MEGABYTE}, "correct: should be"),
            ("/samples", {"run": "mine", "text": MEGABYTE}, "at most 200 are read"),
        ],
    )
    def test_the_api_refuses_in_a_short_sentence(
        self, client: Any, api_name: str, asked: dict[str, Any], sentence: str
    ) -> None:
        said = refused(client, api_name, **asked)
        assert sentence in said and len(said) < SHORT

    @pytest.mark.parametrize("hostile", [MEGABYTE, "x" * 1_000_000], ids=["number", "text"])
    def test_no_field_of_the_page_takes_one(self, url: str, root: Path, hostile: str) -> None:
        """Gradio itself refuses what is no choice, and repeats it to its sender; everything else is ours to say."""
        with urllib.request.urlopen(f"{url}config", timeout=20) as reply:
            config = json.load(reply)
        parts = {part["id"]: part for part in config["components"]}
        before = sorted(root.iterdir())
        tried = set()
        for event in config["dependencies"]:
            values = [parts[one]["props"].get("value") for one in event["inputs"]]
            for place, field in enumerate(event["inputs"]):
                name = parts[field]["props"].get("elem_id")
                if not event["backend_fn"] or name is None:  # what a user's browser does not hold
                    continue
                tried.add(name)
                status, said = sent(url, event["id"], [*values[:place], hostile, *values[place + 1 :]])
                own = status == 200 or "is not in the list of choices" not in said
                assert not own or not re.search("7{200}|x{200}", said), (event["api_name"], name)
        assert {"runs", "samples-text", "train-preset", "train-seed", "fit-model", "fit-budget"} <= tried
        assert sorted(root.iterdir()) == before and Trainings(root).active() is None
        assert sent(url, event["id"], values)[0] == 200  # it still answers

    @pytest.mark.parametrize("field", ["budget_gib", "new_tokens", "rank", "checkpointing", "model", "optimizer"])
    @pytest.mark.parametrize(
        "value", [MEGABYTE, "x" * 1_000_000, 10**400, -(10**400)], ids=["number", "text", "int", "negative"]
    )
    def test_will_it_fit_repeats_little_of_it(self, field: str, value: Any) -> None:
        with pytest.raises(ConfigError) as error:
            fit(replace(preset_values("8gb"), **{field: value}))
        assert len(str(error.value)) < SHORT and field.split("_")[0] in str(error.value)
