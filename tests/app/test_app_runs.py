"""The Runs tab without a browser: tables, filters, curves, what is escaped, and its API."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas")  # comes with the extra `app`

from expo_lite.app import run_list
from expo_lite.app.chart import NO_POINTS, Axes, Curve, chart_html, ticks
from expo_lite.app.run_list import find_run, list_runs, method_of
from expo_lite.app.runs import tables
from expo_lite.app.runs.board import EXCERPT, LONGEST_TEXT, kind_name, sample_html, samples_html, scores_html
from expo_lite.app.runs.curves import bin_width, curves_html, first_choice, levels_of, panels, show
from expo_lite.app.runs.tables import (
    Wanted,
    checked_wanted,
    load_evaluations,
    load_metrics,
    load_samples,
    matching,
    page_of,
    part_of,
    rows_of,
)
from expo_lite.config.presets import preset_path
from expo_lite.config.read import dump_yaml, read_config
from expo_lite.config.settings import Config
from expo_lite.core.charts import spread
from expo_lite.core.errors import DataError
from expo_lite.grading.intervals import Estimate
from expo_lite.runs.folder import EVAL, METRICS, SAMPLES, RunDir

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
TINY = read_config(preset_path("tiny"))
EXPERT = TINY.model_copy(update={"explanation": TINY.explanation.model_copy(update={"source": "expert"})})
HOSTILE = '<script>alert(1)</script> ![](http://evil.example/a.png) ${alert(1)} "x"'


def metrics_record(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "reward_mean": step / 10, "failed_groups": 10 - step, "rescued_groups": step, **more}


def score(level: int, mean: float, k_mean: float = 1.0) -> dict[str, Any]:
    return {
        "level": level,
        "problems": 32,
        "samples": 4,
        "k": 4,
        "pass_at_1": {"mean": mean, "low": mean / 2, "high": mean},
        "pass_at_k": {"mean": k_mean, "low": k_mean / 2, "high": k_mean},
        "truncated_share": 0.0,
    }


def sample(step: int, level: int, kind: str, verdict: str, text: str, **more: Any) -> dict[str, Any]:
    shared = {"problem": f"p{step}", "question": f"What is {step}+{level}?", "answer": str(step + level), "tokens": 9}
    return {"step": step, **shared, "level": level, "kind": kind, "verdict": verdict, "text": text, **more}


SAMPLES_OF_A_RUN = [
    sample(1, 1, "rollout", "correct", "1+1=2", group="solved"),
    sample(1, 4, "rollout", "wrong", "Add in pairs", group="failed"),
    sample(1, 4, "explanation", "correct", "so it is 5", rejected=None, trained=True),
    sample(1, 4, "explanation", "wrong", HOSTILE, rejected="unverified", trained=False),
    sample(2, 5, "explanation", "correct", "a+b (c", rejected=None, trained=False),
]


def make_run(root: Path, name: str, source: str = "self", at: float = 1.0, test: bool = True) -> RunDir:
    explanation = TINY.explanation.model_copy(update={"source": source})
    config = TINY.model_copy(update={"explanation": explanation})
    with RunDir.create(root / name, dump_yaml(config), clock=lambda: at) as run:
        run.append(METRICS, *[metrics_record(1), metrics_record(2, kl_nats=0.5)])
        run.append(SAMPLES, *SAMPLES_OF_A_RUN)
        run.append(EVAL, {"step": 0, "name": "base_validation", "levels": [score(1, 1.0), score(4, 0.0)]})
        run.append(EVAL, {"step": 0, "name": "base_test", "levels": [score(1, 0.96875), score(4, 0.0, 0.25)]})
        run.append(EVAL, {"step": 2, "name": "validation", "levels": [score(1, 1.0), score(4, 0.5)]})
        if test:
            run.append(EVAL, {"step": 2, "name": "test", "levels": [score(1, 1.0), score(4, 0.625, 0.75)]})
        run.status(step=2, state="finished" if test else "running")
    return run


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return make_run(tmp_path, "mine")


def text_of(shown: str) -> str:
    """What a reader sees."""
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", shown)).split())


class TestTables:
    def test_metrics_are_those_of_the_file(self, run: RunDir) -> None:
        rows = rows_of(load_metrics(run))
        assert rows == [metrics_record(1, kl_nats=None), metrics_record(2, kl_nats=0.5)]
        assert json.loads(json.dumps(rows)) == rows  # plain values, as a client gets them

    def test_samples(self, run: RunDir) -> None:
        samples = load_samples(run)
        assert list(samples["row"]) == [1, 2, 3, 4, 5]
        assert list(samples["correct"]) == [True, False, True, False, True]
        assert list(samples["fate"]) == [
            "all attempts were right",
            "all attempts failed",
            "learned from",
            "turned down: it does not arrive at the answer",
            "accepted, not used",
        ]
        assert rows_of(samples)[3]["text"] == HOSTILE

    def test_evaluations(self, run: RunDir) -> None:
        scores = load_evaluations(run)
        assert [(one["step"], one["name"]) for one in scores] == [
            *((0, "base_validation"), (0, "base_test"), (2, "validation"), (2, "test"))
        ]
        after = scores[3]["levels"][1]
        assert (after["level"], after["problems"], after["samples"], after["k"]) == (4, 32, 4, 4)
        assert after["pass_at_1"] == Estimate(0.625, 0.3125, 0.625)
        assert after["pass_at_k"] == Estimate(0.75, 0.375, 0.75)

    def test_a_torn_last_line_is_left_out_and_read_when_it_is_whole(self, run: RunDir) -> None:
        with open(run.path / METRICS, "a", encoding="utf-8") as file:
            file.write('{"step": 3, "reward')
        assert list(load_metrics(run)["step"]) == [1, 2]
        with open(run.path / METRICS, "a", encoding="utf-8") as file:
            file.write('_mean": 0.3}\n')
        assert list(load_metrics(run)["step"]) == [1, 2, 3]

    def test_a_run_that_has_only_begun(self, tmp_path: Path) -> None:
        RunDir.create(tmp_path / "new", dump_yaml(TINY)).close()
        empty = RunDir(tmp_path / "new")
        assert [len(load(empty)) for load in (load_metrics, load_samples, load_evaluations)] == [0, 0, 0]
        shown = show(list_runs(tmp_path))
        drawn = curves_html(shown, levels_of(shown))
        assert drawn.count("come with the first step") == 1 and NO_POINTS not in drawn  # one place holder for all
        assert "No test scores yet" in scores_html(shown)

    @pytest.mark.parametrize("line", ['{"step": 1}', "{", '{"step": 1, "name": "test", "levels": [3]}'])
    def test_what_is_damaged_is_said_in_a_sentence(self, run: RunDir, line: str) -> None:
        path = run.path / EVAL
        path.write_text(line + "\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
        with pytest.raises(DataError, match=r"eval\.jsonl"):
            load_evaluations(run)


class TestKeeping:
    """What was read of files is kept: the newest only, and no file is read twice for nothing."""

    def test_a_file_that_has_not_grown_is_not_parsed_again(self, run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
        first = load_samples(run)
        monkeypatch.setattr(tables, "_samples", lambda *_: pytest.fail("it was parsed again"))
        for _ in range(3):
            assert load_samples(run) is first

    def test_of_a_file_that_has_grown_only_the_new_lines_are_parsed(
        self, run: RunDir, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[int] = []
        make = tables._samples
        monkeypatch.setattr(
            tables, "_samples", lambda records, before: made.append(len(records)) or make(records, before)
        )
        assert len(load_samples(run)) == 5
        run.append(SAMPLES, sample(3, 5, "rollout", "wrong", "new", group="failed"))
        assert list(load_samples(run)["row"]) == [1, 2, 3, 4, 5, 6] and rows_of(load_samples(run))[5]["text"] == "new"
        assert made == [0, 5, 1]

    def test_a_run_that_was_cut_back_and_went_on_is_read_anew(self, run: RunDir) -> None:
        run.append(METRICS, metrics_record(3))
        assert list(load_metrics(run)["step"]) == [1, 2, 3]
        run.truncate_after(1)
        run.append(METRICS, *[metrics_record(step, reward_mean=9.0) for step in (2, 3, 4)])
        assert [row["reward_mean"] for row in rows_of(load_metrics(run))] == [0.1, 9.0, 9.0, 9.0]

    def test_a_new_column_of_a_growing_file(self, run: RunDir) -> None:
        load_metrics(run)
        run.append(METRICS, metrics_record(3, margin_mean=1.0))
        assert [row["margin_mean"] for row in rows_of(load_metrics(run))] == [None, None, 1.0]

    def test_few_files_are_kept_and_those_asked_for_last(self, tmp_path: Path, run: RunDir) -> None:
        first, others = load_samples(run), [RunDir(tmp_path / str(number)) for number in range(tables.MOST_TABLES)]
        for other in others[1:]:
            load_samples(other)
        assert load_samples(run) is first
        for other in others:
            load_samples(other)
        assert load_samples(run) is not first

    def test_what_could_not_be_made_is_not_kept(self, run: RunDir) -> None:
        assert len(load_metrics(run)) == 2
        run.append(METRICS, {"reward_mean": 0.5})
        for _ in range(2):
            with pytest.raises(DataError, match="step is missing"):
                load_metrics(run)
        run.truncate_after(-1)
        run.append(METRICS, metrics_record(1))
        assert list(load_metrics(run)["step"]) == [1]

    def test_configurations_are_read_once(self, tmp_path: Path, run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
        read: list[Path] = []
        real = run_list.read_config
        monkeypatch.setattr(run_list, "read_config", lambda path: read.append(path) or real(path))
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "config.yaml").write_text("policy: {unknown: 1}", encoding="utf-8")  # another version's
        for _ in range(3):
            assert [one.name for one in list_runs(tmp_path)] == ["mine"]
        assert sorted(path.parent.name for path in read) == ["mine", "other"]
        run.config.write_text(dump_yaml(TINY.model_copy(update={"steps": 12345})), encoding="utf-8")
        assert list_runs(tmp_path)[0].config.steps == 12345


class TestFilters:
    @pytest.mark.parametrize(
        ("wanted", "rows"),
        [
            (Wanted(), [1, 2, 3, 4, 5]),
            (Wanted(kind="explanation"), [3, 4, 5]),
            (Wanted(levels=(4,)), [2, 3, 4]),
            (Wanted(levels=(1, 5)), [1, 5]),
            (Wanted(correct="right"), [1, 3, 5]),
            (Wanted(kind="rollout", correct="wrong"), [2]),
            (Wanted(text="IN PAIRS"), [2]),
            (Wanted(text="b (c"), [5]),  # no regular expression
            (Wanted(text="What is 2+5"), [5]),
            (Wanted(text="nowhere"), []),
        ],
    )
    def test_matching(self, run: RunDir, wanted: Wanted, rows: list[int]) -> None:
        assert list(matching(load_samples(run), wanted)["row"]) == rows

    def test_what_was_not_judged_in_time_is_neither(self, run: RunDir) -> None:
        samples = load_samples(run)
        samples.loc[1, "verdict"] = "timeout"
        assert list(matching(samples, Wanted(correct="wrong"))["row"]) == [4]
        assert list(matching(samples, Wanted(correct="right"))["row"]) == [1, 3, 5]

    @pytest.mark.parametrize("asked", [("x", [], "", ""), ("", ["4"], "", ""), ("", [], "yes", ""), ("", [], "", 7)])
    def test_filters_that_are_none(self, asked: tuple[Any, ...]) -> None:
        with pytest.raises(DataError, match="should be"):
            checked_wanted(*asked)

    def test_a_search_is_bounded(self) -> None:
        with pytest.raises(DataError, match="1,000,000 characters; at most 200"):
            checked_wanted("", [], "", "x" * 1_000_000)

    @pytest.mark.parametrize(
        ("asked", "rows", "page"),
        [
            (1, [1, 2], 1),
            (3, [5], 3),
            (9, [5], 3),
            (0, [1, 2], 1),
            (None, [1, 2], 1),
            ("x", [1, 2], 1),
            (2.0, [3, 4], 2),
        ],
    )
    def test_pages(self, run: RunDir, asked: object, rows: list[int], page: int) -> None:
        found, number, pages = page_of(load_samples(run), asked, rows=2)
        assert (list(found["row"]), number, pages) == (rows, page, 3)

    @pytest.mark.parametrize(("offset", "limit", "rows"), [(0, 2, [1, 2]), (3, 9, [4, 5]), (5, 1, []), (10**9, 1, [])])
    def test_parts(self, run: RunDir, offset: int, limit: int, rows: list[int]) -> None:
        assert list(part_of(load_samples(run), offset, limit, 9)["row"]) == rows

    @pytest.mark.parametrize(("offset", "limit"), [(-1, 1), (0, 0), (0, 10), (0.5, 1), ("0", 1), (None, 1), (0, None)])
    def test_parts_that_are_none(self, run: RunDir, offset: object, limit: object) -> None:
        with pytest.raises(DataError, match=r"(offset|limit): should be a whole number"):
            part_of(load_samples(run), offset, limit, 9)


class TestCurves:
    def test_their_points_are_the_files_numbers(self, tmp_path: Path, run: RunDir) -> None:
        make_run(tmp_path, "grpo", source="none", at=2)
        shown = show(list_runs(tmp_path))
        assert [(one.run.name, one.style, method_of(one.run.config).name) for one in shown] == [
            ("grpo", 0, "GRPO"),
            ("mine", 1, "ExPO"),
        ]
        assert levels_of(shown) == [1, 4]
        drawn = {panel.title: panel for panel in panels(shown, [4])}
        assert list(drawn) == ["Level 4", "Reward", "Failed problems", "Rescued problems"]
        assert drawn["Level 4"].lines[1].points == [(0, 0), (2, 50)]
        assert drawn["Level 4"].lines[1].intervals == [(0, 0, 0), (2, 25, 50)]
        assert drawn["Reward"].lines[1].points == [(1, 0.1), (2, 0.2)]
        assert drawn["Failed problems"].lines[0].points == [(1, 9), (2, 8)]
        assert {panel.axes.right for panel in drawn.values()} == {2}

    def test_a_later_methods_run_has_the_curves_that_it_records(self, tmp_path: Path, run: RunDir) -> None:
        with RunDir.create(tmp_path / "dpo", dump_yaml(TINY), clock=lambda: 2.0) as other:
            other.append(METRICS, *[{"step": step, "margin_mean": 0.5} for step in (1, 2)])
        alone = panels(show([find_run(tmp_path, "dpo")]), [])
        assert alone == []
        both = {panel.title: panel for panel in panels(show(list_runs(tmp_path)), [])}
        assert [len(line.points) for line in both["Reward"].lines] == [0, 2]
        shown = curves_html(show(list_runs(tmp_path)), [4])
        assert "A dpo" in text_of(shown) and "Failed problems" in shown

    def test_methods_and_kinds_of_text_have_names(self) -> None:
        dpo = EXPERT.model_copy(update={"objective": EXPERT.objective.model_copy(update={"name": "dpo"})})
        names = [method_of(config).name for config in (TINY, EXPERT, dpo)]
        assert names == ["ExPO", "GRPO with expert solutions", "DPO with expert solutions, online"]
        assert [kind_name("explanation", config) for config in (TINY, dpo)] == ["self-explanation", "expert's solution"]
        assert kind_name("pair", dpo) == "pair" and kind_name("rollout", dpo) == "attempt"

    def test_long_runs_are_averaged_to_few_points(self, run: RunDir) -> None:
        run.append(METRICS, *[metrics_record(step) for step in range(3, 601)])
        (reward,) = [p for p in panels(show([find_run(run.path.parent, "mine")]), []) if p.title == "Reward"]
        assert bin_width(600) == 10 and len(reward.lines[0].points) == 60 and "mean of 10 steps" in reward.note
        assert reward.lines[0].points[1] == pytest.approx((15.5, 1.55))

    def test_names_are_escaped_and_the_chart_speaks(self) -> None:
        intervals = [(0, 0, 0), (10, 40, 60)]
        line = Curve("B", "r1", [(0, 0), (10, 52.34)], True, intervals, f"B {HOSTILE}")
        shown = chart_html("Level 4", "", [line], Axes(10, 100, (0, 100), lambda v: f"{v:.3g} %"), read=True)
        assert "<script" not in shown and "evil.example" not in shown and "${" not in shown
        assert f"Level 4. Latest: B {HOSTILE} 52.3 %." in html.unescape(shown)
        assert 'data-values="[[0, &quot;0 %&quot;], [10, &quot;52.3 %&quot;]]"' in shown and 'data-last="10"' in shown
        assert 'class="band r1" d="M0 1000L1000 400L1000 600L0 1000Z"' in shown

    @pytest.mark.parametrize(("last", "steps"), [(1, "0 1"), (3, "0 1 2 3"), (10, "0 5 10"), (90, "0 25 50 75")])
    def test_steps_are_whole_and_stand_where_they_are(self, last: int, steps: str) -> None:
        shown = chart_html("T", "", [], Axes(last, 1.0, (), str))
        marks = re.findall(r'class="x" style="left:([\d.]+)%">(?:step )?(\d+)<', shown)
        assert " ".join(step for _, step in marks) == steps
        assert all(float(place) == pytest.approx(100 * int(step) / last, abs=0.06) for place, step in marks)

    @pytest.mark.parametrize(
        ("top", "last"), [(100, 100), (1, 1), (30, 30), (13, 15), (0.07, 0.08), (12345, 12500), (3, 3)]
    )
    def test_axes_end_at_round_numbers(self, top: float, last: float) -> None:
        assert ticks(top)[0] == 0 and ticks(top)[-1] == pytest.approx(last) and len(ticks(top)) <= 6

    def test_letters_do_not_lie_on_each_other(self) -> None:
        assert spread([10, 11, 50], 12) == [10, 22, 50]
        assert spread([95, 99, 100], 12) == [76, 88, 100]

    def test_at_first_the_newest_of_each_method_and_never_another_model(self, tmp_path: Path) -> None:
        for at, (name, source) in enumerate([("old", "self"), ("grpo", "none"), ("new", "self")], 1):
            make_run(tmp_path, name, source, at)
        other = TINY.model_copy(update={"policy": TINY.policy.model_copy(update={"model": "other"})})
        RunDir.create(tmp_path / "other", dump_yaml(other), clock=lambda: 0.0).close()
        os.utime(tmp_path / "other" / "config.yaml", (0, 0))
        assert [run.name for run in first_choice(list_runs(tmp_path))] == ["new", "grpo"]
        assert first_choice([]) == []
        make_run(tmp_path, "control", "none", 4)
        assert [run.name for run in first_choice(list_runs(tmp_path))] == ["new", "control"]  # the page's own run first


class TestBoards:
    def test_base_against_adapter(self, tmp_path: Path, run: RunDir) -> None:
        shown = text_of(scores_html(show(list_runs(tmp_path))))
        assert "32 a level, 4 samples each" in shown and "pass@4 before" in shown
        assert "A mine · ExPO 1 97 [48, 97] 100 [50, 100] 100 [50, 100] 100 [50, 100]" in shown
        assert "4 0 [0, 0] 62 [31, 62] 25 [12, 25] 75 [38, 75]" in shown

    def test_a_run_that_goes_on_has_no_after(self, tmp_path: Path) -> None:
        make_run(tmp_path, "going", test=False)
        shown = text_of(scores_html(show(list_runs(tmp_path))))
        assert "(running at step 2: the adapter is tested when a run has finished)" in shown
        assert "4 0 [0, 0] 25 [12, 25]" in shown

    def test_rows_are_short_and_a_sample_is_whole(self, run: RunDir) -> None:
        long = "word " * 2000
        run.append(SAMPLES, sample(3, 5, "rollout", "no answer", long + "END", group="failed"))
        samples = rows_of(load_samples(run))
        table = samples_html(samples, TINY)
        assert len(text_of(table)) < 6 * (EXCERPT + 100) and "END" not in table
        assert "✗ no answer" in text_of(table) and "self-explanation" in text_of(table)
        assert "boxed" not in table and "$" not in table
        assert "END" in sample_html(samples[5], TINY)
        assert "Expert" in sample_html(samples[2], EXPERT)

    def test_even_one_sample_is_bounded(self, run: RunDir) -> None:
        run.append(SAMPLES, sample(3, 5, "rollout", "wrong", "x" * 1_000_000, group="failed"))
        shown = sample_html(rows_of(load_samples(run))[5], TINY)
        assert len(shown) < LONGEST_TEXT + 2000 and "The first 20,000 characters are shown" in shown

    def test_what_models_wrote_is_only_text(self, run: RunDir) -> None:
        samples = rows_of(load_samples(run))
        for shown in (samples_html(samples, TINY), sample_html(samples[3], TINY)):
            assert "<script" not in shown and "evil.example" not in shown and "${" not in shown
        assert "<script>alert(1)</script>" in text_of(sample_html(samples[3], TINY))


# ----------------------------------------------------------------------------------------------------------------- API


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The Runs tab alone, as a server."""
    gradio_client = pytest.importorskip("gradio_client")
    import gradio as gr

    from expo_lite.app.context import AppContext
    from expo_lite.app.opening import Opening
    from expo_lite.app.runs import tab
    from expo_lite.app.shell import Shell
    from expo_lite.app.worker import ModelWorker

    root = tmp_path_factory.mktemp("root")
    make_run(root / "runs", "mine")
    make_run(root / "outside", "secret")
    worker = ModelWorker(lambda: None)
    with gr.Blocks() as page, gr.Tabs() as tabs, gr.Tab("Runs", id="runs"):
        context = AppContext(worker, Opening(Config(), root / "runs"), {})  # type: ignore[arg-type]
        tab.build(context, Shell(page, tabs, {"runs"}, gr.State("")))
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True)
    yield gradio_client.Client(url, verbose=False)
    page.close()
    worker.close()


class TestApi:
    def test_metrics(self, client: Any) -> None:
        rows = client.predict(run="mine", api_name="/metrics")
        assert rows == [metrics_record(1, kl_nats=None), metrics_record(2, kl_nats=0.5)]

    def test_samples_with_filters(self, client: Any) -> None:
        assert [row["row"] for row in client.predict(run="mine", api_name="/samples")] == [1, 2, 3, 4, 5]
        rows = client.predict(
            run="mine", kind="explanation", level=4, correct="wrong", text="ALERT", api_name="/samples"
        )
        assert [(row["row"], row["text"], row["correct"]) for row in rows] == [(4, HOSTILE, False)]

    @pytest.mark.parametrize(("api_name", "key", "last"), [("/metrics", "step", 2), ("/samples", "row", 5)])
    def test_both_are_paged_and_bounded(self, client: Any, api_name: str, key: str, last: int) -> None:
        pages = [client.predict(run="mine", offset=n, limit=1, api_name=api_name) for n in range(last + 1)]
        assert [[row[key] for row in page] for page in pages] == [*([n] for n in range(1, last + 1)), []]
        for wrong in ({"limit": 1001}, {"limit": 0}, {"offset": -1}):
            with pytest.raises(Exception, match="should be a whole number from"):
                client.predict(run="mine", api_name=api_name, **wrong)

    @pytest.mark.parametrize("name", ["../outside/secret", "..", "", "mine/../../outside/secret", "/etc", "x\0y"])
    def test_only_runs_below_the_root(self, client: Any, name: str) -> None:
        for api_name in ("/metrics", "/samples"):
            with pytest.raises(Exception, match="There is no run"):
                client.predict(run=name, api_name=api_name)

    def test_nothing_else_is_public(self, client: Any) -> None:
        assert set(client.view_api(return_format="dict")["named_endpoints"]) == {"/metrics", "/samples"}
