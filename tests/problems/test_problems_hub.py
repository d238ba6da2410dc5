"""Data sets of the Hub in their real schemas, from a stand-in for `load_dataset`, and how each failure ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from expo_lite.config.settings import DataConfig
from expo_lite.core.errors import DataError
from expo_lite.core.records import Problem
from expo_lite.problems import load_problems
from expo_lite.problems.hub import KNOWN_SETS, hub_message

MATH_SUBJECTS = "algebra counting_and_probability geometry intermediate_algebra number_theory prealgebra precalculus"
GSM8K, MATH, MATH_500 = "openai/gsm8k", "EleutherAI/hendrycks_math", "HuggingFaceH4/MATH-500"
DAPO, DEEPSCALER = "open-r1/DAPO-Math-17k-Processed", "agentica-org/DeepScaleR-Preview-Dataset"


def gsm8k(i: int) -> dict[str, Any]:
    reasoning = f"She has {i}+{i} = <<{i}+{i}={2 * i}>>{2 * i} eggs.\nShe sells none."
    return {"question": f"Anna has {i} eggs and finds {i}?", "answer": f"{reasoning}\n#### {2 * i}"}


def math(i: int, subject: str = "algebra") -> dict[str, Any]:
    return {
        "problem": f"What is ${i}+{i}$ in {subject}?",
        "level": f"Level {1 + i % 5}",
        "type": subject.title(),
        "solution": f"First $\\boxed{{{i}}}$ twice, so $\\boxed{{\\frac{{{2 * i}}}{{1}}}}$.",
    }


def math_500(i: int) -> dict[str, Any]:
    return {
        "problem": f"What is ${i}+{i}$ in algebra?",
        "solution": f"$\\boxed{{{2 * i}}}$",
        "answer": str(2 * i),
        "subject": "Algebra",
        "level": 1 + i % 5,
        "unique_id": f"test/algebra/{i}.json",
    }


def nlile(i: int) -> dict[str, Any]:
    return {name: value for name, value in math_500(i).items() if name != "unique_id"}


def dapo(i: int) -> dict[str, Any]:
    return {
        "prompt": f"What is ${i}+{i}$?",
        "solution": str(2 * i),
        "data_source": "math_dapo",
        "source_prompt": [{"content": f"Solve the following: What is ${i}+{i}$?", "role": "user"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": str(2 * i), "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": f"{i}-0"},
    }


def deepscaler(i: int) -> dict[str, Any]:
    return {"problem": f"What is ${i}+{i}$?", "answer": str(2 * i), "solution": f"Twice {i} it is." if i % 2 else ""}


class Hub:
    """Stands in for `datasets.load_dataset`: (id, subset, split) -> rows."""

    def __init__(self, rows: Mapping[tuple[str, str | None, str], list[dict[str, Any]]]) -> None:
        self.rows = rows
        self.asked: list[tuple[str, str | None, str]] = []

    def __call__(self, hub_id: str, subset: str | None, *, split: str) -> Iterator[dict[str, Any]]:
        self.asked.append((hub_id, subset, split))
        return iter(self.rows[hub_id, subset, split])


def made(row: Callable[[int], dict[str, Any]], count: int, start: int = 0) -> list[dict[str, Any]]:
    return [row(i) for i in range(start, start + count)]


def by_answer(problems: list[Problem]) -> dict[str, Problem]:
    return {p.answer: p for p in problems}


def test_gsm8k() -> None:
    hub = Hub({(GSM8K, "main", "train"): made(gsm8k, 40), (GSM8K, "main", "test"): made(gsm8k, 10, 35)})
    found = load_problems(DataConfig(source=GSM8K, validation_problems=3, test_problems=8), hub)
    assert (len(found.train), len(found.validation), len(found.test)) == (32, 3, 8)
    assert found.notes == ("5 training problems that are also test problems are left out",)
    one = by_answer(found.train + found.validation)["14"]
    assert (one.question, one.level) == ("Anna has 7 eggs and finds 7?", 1)
    assert one.solution == "She has 7+7 = 14 eggs.\nShe sells none.\nThe answer is $\\boxed{14}$."


def test_math_is_all_its_subjects() -> None:
    subjects = MATH_SUBJECTS.split()
    rows: dict = {(MATH, s, "train"): [math(i, s) for i in range(80)] for s in subjects}
    rows |= {(MATH, s, "test"): [math(i, s) for i in range(100, 105)] for s in subjects}
    rows[MATH, "geometry", "train"] += [{**math(90, "geometry"), "level": "Level ?"}]
    hub = Hub(rows)
    found = load_problems(DataConfig(source=MATH, levels={5: 1}), hub)
    assert {subset for _, subset, _ in hub.asked} == set(subjects)
    assert len(found.train) + len(found.validation) == 7 * 80
    assert {p.level for p in found.test} == {1, 2, 3, 4, 5}
    left_out, never_drawn, *_ = found.notes
    assert left_out.startswith(
        "left out: EleutherAI/hendrycks_math (geometry, train), row 81: level: should be a whole"
    )
    assert never_drawn.startswith("levels [1, 2, 3, 4] of the data are not in data.levels")
    one = found.test[0]
    assert one.answer.startswith("\\frac")
    assert one.solution is not None and one.solution.count("boxed") == 2


def test_one_subject_of_math_tested_on_math_500() -> None:
    """A test source has its own columns, subset and split; what it holds is never trained on."""
    hub = Hub({(MATH, "algebra", "train"): made(math, 80), (MATH_500, None, "test"): made(math_500, 20, 70)})
    columns: dict = {"level": "grade"}
    for row in hub.rows[MATH, "algebra", "train"]:
        row["grade"] = row.pop("level")
    found = load_problems(DataConfig(source=MATH, subset="algebra", test_source=MATH_500, columns=columns), hub)
    assert hub.asked == [(MATH, "algebra", "train"), (MATH_500, None, "test")]
    assert len(found.test) == 20
    assert not {p.id for p in found.test} & {p.id for p in found.train + found.validation}
    assert len(found.train + found.validation) == 70


def test_nlile_math() -> None:
    name = "nlile/hendrycks-MATH-benchmark"
    hub = Hub({(name, None, "train"): made(nlile, 80), (name, None, "test"): made(nlile, 20, 80)})
    found = load_problems(DataConfig(source=name), hub)
    one = by_answer(found.train + found.validation)["14"]
    assert (one.level, one.solution, len(found.test)) == (3, "$\\boxed{14}$", 20)


def test_math_500_is_for_testing_unless_told_otherwise() -> None:
    hub = Hub({(MATH_500, None, "test"): made(math_500, 80), (MATH_500, None, "train"): made(math_500, 80)})
    with pytest.raises(DataError, match=r"MATH-500: holds test problems only; give it as data\.test_source"):
        load_problems(DataConfig(source=MATH_500), hub)


def test_dapo_and_its_subsets() -> None:
    rows = {(DAPO, s, "train"): made(dapo, 32, 100 * n) for n, s in enumerate(("en", "cn"))}
    hub = Hub(rows)
    found = load_problems(DataConfig(source=DAPO), hub)
    assert hub.asked == [(DAPO, "en", "train")]
    assert (len(found.train), len(found.validation), len(found.test)) == (24, 4, 4)
    one = by_answer(found.train + found.validation + found.test)["14"]
    assert (one.question, one.solution) == ("What is $7+7$?", None)
    both = load_problems(DataConfig(source=DAPO, subset="en, cn"), hub)
    assert len(both.train + both.validation + both.test) == 64


def test_deepscaler_and_its_six_empty_answers() -> None:
    rows = made(deepscaler, 32)
    empty = [{**deepscaler(i), "answer": ""} for i in range(100, 106)]
    found = load_problems(DataConfig(source=DEEPSCALER), Hub({(DEEPSCALER, None, "train"): rows + empty}))
    assert sum(note.startswith("left out: ") for note in found.notes) == 6
    solutions = {p.answer: p.solution for p in found.train + found.validation + found.test}
    assert (solutions["14"], solutions["12"]) == ("Twice 7 it is.\nThe answer is $\\boxed{14}$.", None)
    one_more = Hub({(DEEPSCALER, None, "train"): rows + empty + [{**deepscaler(7), "answer": None}]})
    with pytest.raises(DataError, match=r"7 of 39 rows .*\n.*row 33: answer:(.*\n)+.*--data\.bad-rows 7 \(now 6\)"):
        load_problems(DataConfig(source=DEEPSCALER), one_more)
    with pytest.raises(DataError, match="6 of 38 rows"):
        load_problems(DataConfig(source=DEEPSCALER, bad_rows=0), Hub({(DEEPSCALER, None, "train"): rows + empty}))


def test_a_set_that_is_known_to_contradict_itself_is_used_without_that() -> None:
    rows = made(dapo, 32)
    other = {**dapo(7), "solution": "15"}
    found = load_problems(DataConfig(source=DAPO), Hub({(DAPO, "en", "train"): [*rows, other]}))
    assert len(found.train + found.validation + found.test) == 31
    assert found.notes[0] == (
        f"left out: {DAPO} (en, train), row 33: asks the same question as {DAPO} (en, train), row 8 with another "
        "answer: '14' there, '15' here; neither is taken"
    )
    with pytest.raises(DataError, match=r"row 33: asks the same question as .*row 8 with another answer"):
        load_problems(DataConfig(source=DAPO, bad_rows=0), Hub({(DAPO, "en", "train"): [*rows, other]}))
    with pytest.raises(DataError, match=r"row 33: asks the same question as .*row 8 with another answer"):
        load_problems(
            DataConfig(source=GSM8K),
            Hub({(GSM8K, "main", "train"): [*made(gsm8k, 32), {**gsm8k(7), "answer": "#### 15"}]}),
        )


def test_an_unknown_data_set_is_described_in_the_configuration() -> None:
    rows = [{"q": f"{i}+{i}?", "a": 2 * i, "grade": "level 2"} for i in range(32)]
    hub = Hub({("me/mine", "easy", "fit"): rows, ("me/mine", "easy", "exam"): [{"q": "1?", "a": 1, "grade": 1}]})
    columns = {"question": "q", "answer": "a", "level": "grade"}
    config = DataConfig.model_validate({"source": "me/mine", "subset": "easy", "split": "fit", "columns": columns})
    found = load_problems(config, hub)
    assert {p.level for p in found.train} == {2}
    assert len(found.train + found.validation + found.test) == 32
    found = load_problems(config.model_copy(update={"test_split": "exam"}), hub)
    assert [p.question for p in found.test] == ["1?"]


def test_a_changed_schema_is_said() -> None:
    rows = [{"query": "1+1?", "answer": "#### 2"}]
    with pytest.raises(DataError, match=r"openai/gsm8k \(train\): no column question; its columns are answer, query"):
        load_problems(DataConfig(source=GSM8K), Hub({(GSM8K, "main", "train"): rows}))


def test_known_sets_name_real_parts() -> None:
    for known in KNOWN_SETS.values():
        assert {"question", "answer"} <= known.columns.keys() <= {"question", "answer", "level", "solution"}


# ------------------------------------------------------------------------------------------- failures


def answered(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co/datasets/me/mine"))


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


class DatasetNotFoundError(FileNotFoundError):
    """By the name of `datasets.exceptions`, which is slow to load."""


GATED = GatedRepoError("Access to dataset me/mine is restricted", response=answered(403))
ABSENT = RepositoryNotFoundError("Repository Not Found", response=answered(401))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (GATED, "is gated on the Hub; accept its licence at .*/datasets/me/mine, then run `hf auth login`"),
        (
            caused(DatasetNotFoundError("Dataset 'me/mine' is a gated dataset on the Hub."), GATED),
            "is gated on the Hub",
        ),
        (caused(DatasetNotFoundError("Dataset 'me/mine' doesn't exist on the Hub"), ABSENT), "neither a file here nor"),
        (HfHubHTTPError("401 Client Error", response=answered(401)), "refuses access; run `hf auth login`"),
        (HfHubHTTPError("403 Forbidden", response=answered(403)), "refuses access; run `hf auth login`"),
        (HfHubHTTPError("503 Service Unavailable", response=answered(503)), "cannot be reached; .*hf download me/mine"),
        (ConnectionError("Couldn't reach 'me/mine' on the Hub"), "cannot be reached; .*set data.source to it"),
        (httpx.ConnectTimeout("timed out"), "cannot be reached"),
        (LocalEntryNotFoundError("cannot find the file in the cache"), "cannot be reached"),
        (FileNotFoundError("Couldn't find 'me/mine' either: LocalEntryNotFoundError: no"), "cannot be reached"),
        (
            ValueError("Config name is missing.\nPlease pick one among: ['main']\nExample of usage:\n\t`load('x')`"),
            r"Config name is missing. Please pick one among: \['main'\]; set data.subset, data.split or",
        ),
        (
            ValueError("Unknown split \"trian\". Should be one of ['train']."),
            'Unknown split "trian".*; set data.subset',
        ),
        (OSError("No space left on device"), r"could not be loaded \(OSError: No space left on device\)"),
        (KeyError(), r"could not be loaded \(KeyError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_failure_ends_in_one_sentence_on_what_to_do(error: Exception, says: str) -> None:
    def load_dataset(*_: object, **__: object) -> list:
        raise error

    with pytest.raises(DataError, match=rf"^me/mine: .*{says}") as refused:
        load_problems(DataConfig(source="me/mine"), load_dataset)
    assert len(str(refused.value).splitlines()) == 1


def test_a_circle_of_causes_ends() -> None:
    error, other = ValueError("a"), ValueError("b")
    error.__cause__, other.__cause__ = other, error
    assert hub_message("me/mine", error).startswith("me/mine: a; set data.subset")


def test_the_real_loader_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` itself raises without the Hub is understood."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"^openai/no-such-set: the Hub cannot be reached"):
        load_problems(DataConfig(source="openai/no-such-set"))
