"""Several processes that train one policy: the same as one, up to rounding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from expo_lite.core.errors import DataError
from expo_lite.model.ranks import ALONE, Ranks
from expo_lite.runs.folder import METRICS, RunDir

SMALL = ["--preset", "tiny", "--threads", "1", "--data.test-problems", "4", "--data.validation-problems", "4"]
SMALL += ["--evaluation.every", "2", "--checkpoint.every", "2", "--memory.rollouts-alive", "48"]


class Told(Ranks):
    """A rank to which `others` says what all ranks have, given its own."""

    others: Any = None

    def gathered(self, value: Any) -> list[Any]:
        return type(self).others(value)


class TestDealing:
    @pytest.mark.parametrize("items", [[], [1], [1, 2], [1, 2, 3, 4, 5, 6, 7]])
    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_each_gives_every_rank_all_results_in_order(self, items: list[int], count: int) -> None:
        ranks = [Told(index, count) for index in range(count)]
        shares = [[-item for item in rank.share(items)] for rank in ranks]
        Told.others = staticmethod(lambda value: shares)
        for rank in ranks:
            assert rank.each(items, lambda own: [-item for item in own]) == [-item for item in items]

    def test_an_empty_share_is_no_work(self) -> None:
        Told.others = staticmethod(lambda value: [["done"], value])
        assert Told(1, 2).each(["only one"], lambda own: pytest.fail("nothing to do")) == ["done"]

    def test_what_one_raises_is_raised_by_all(self) -> None:
        def fails(own: list[int]) -> list[int]:
            raise DataError("the reward function")

        Told.others = staticmethod(lambda value: [[1], value])
        with pytest.raises(DataError, match="the reward function"):
            Told(1, 2).each([1, 2], fails)
        Told.others = staticmethod(lambda value: [value, DataError("on another rank")])
        with pytest.raises(DataError, match="on another rank"):
            Told(0, 2).each([1, 2], lambda own: own)

    def test_one_says_stop(self) -> None:
        Told.others = staticmethod(lambda value: [value, True])
        assert Told(0, 2).any(False) and not ALONE.any(False) and ALONE.any(True)

    def test_sums_over_those_that_have_a_number(self) -> None:
        Told.others = staticmethod(lambda value: [{"a": 1.0}, {}, {"a": 2.0, "b": 4.0}])
        assert Told(1, 3).summed({}) == {"a": 3.0, "b": 4.0} and ALONE.summed({"a": 1.0}) == {"a": 1.0}

    def test_gradients_of_a_rank_that_has_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def reduced(flat: torch.Tensor) -> None:
            assert flat.tolist() == [0, 0, 0, 5]
            flat += torch.tensor([1.0, 2, 3, 4])

        monkeypatch.setattr(torch.distributed, "all_reduce", reduced)
        first, second = (torch.nn.Parameter(torch.ones(shape)) for shape in ((3, 1), (1,)))
        second.grad = torch.tensor([5.0])
        Ranks(1, 2).sum_gradients([first, second])
        assert first.grad is not None and first.grad.tolist() == [[1], [2], [3]] and second.grad.tolist() == [9]

    def test_one_process_loads_nothing(self) -> None:
        code = "import sys; from expo_lite.model.ranks import Ranks; assert Ranks.launched().count == 1"
        subprocess.run([sys.executable, "-c", f"{code}; assert 'accelerate' not in sys.modules"], check=True)


def train(folder: Path, *flags: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    """A training in one process, or in several under accelerate's launcher: on a machine without a GPU, on its CPU."""
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)]
        launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m"]
    command = [*launcher, "expo_lite.train", *flags, "--run", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)


def numbers(folder: Path) -> list[dict[str, float]]:
    """The metrics, but for seconds."""
    return [
        {name: value for name, value in record.items() if not name.endswith("seconds")}
        for record in RunDir(folder).read(METRICS)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [["--kl.coef", "0.01", "--explanation.selection", "likeliest"], ["--objective.name", "dpo"]]
)
def test_two_processes_train_as_one(tmp_path: Path, method: list[str]) -> None:
    """Two steps by two processes and, after a stop there, two more, against four steps of one process."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert train(one, *SMALL, *method, "--steps", "4").returncode == 0
    for flags in ([*SMALL, *method, "--steps", "2"], ["--resume", "--steps", "4"]):
        done = train(two, *flags, processes=2)
        assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("Resuming") == 1  # one of them speaks
    assert (one / "samples.jsonl").read_text() == (two / "samples.jsonl").read_text()
    for alone, together in zip(numbers(one), numbers(two), strict=True):
        assert alone.keys() == together.keys()
        assert {name: pytest.approx(value, rel=1e-3, abs=1e-6) for name, value in alone.items()} == together
    weights, others = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (one, two))
    assert all(torch.allclose(weights[name], others[name], atol=2e-5) for name in weights)
    scores = [json.loads(line) for line in (two / "eval.jsonl").read_text().splitlines()]
    names = [score["name"] for score in scores]
    assert names == ["base_validation", "base_test", "validation", "test", "validation", "test"]


@pytest.mark.slow
def test_mistakes_are_said_once(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "something").touch()
    done = train(tmp_path / "run", *SMALL, "--steps", "2", processes=2)
    assert done.returncode != 0 and done.stderr.count("already exists; continue it with --resume") == 1
    done = train(tmp_path / "other", *SMALL, "--steps", "2", "--objective.nme", "dpo", processes=2)
    assert done.returncode != 0 and done.stderr.count("objective.nme") == 1
