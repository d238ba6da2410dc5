"""Reward functions of one's own, with TRL's signature, for tasks that the verifier of mathematics does not know."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

from expo_lite.config import RewardConfig
from expo_lite.errors import ConfigError, DataError
from expo_lite.judging import Judgement
from expo_lite.prompts import Prompts
from expo_lite.types import Completion, Problem, Verdict

Function = Callable[..., Any]
"""f(prompts, completions, completion_ids, **columns) -> one number per completion."""
NOT_COLUMNS = ("prompt", "completion", "completion_ids")  # TRL's own names
MAIN = "__main__"


class RewardFunction:
    """Judges by a function: right is what earns at least `solved`.

    The function is called as TRL's GRPOTrainer calls it: with lists that have one entry per completion, all by name.
    Prompts and completions are text, or chat messages with `messages`; the columns are the data's own, repeated for
    each completion, and question, answer and level. Not handed over are trainer_state, log_extra and log_metric.
    """

    def __init__(self, function: Function, config: RewardConfig, prompts: Prompts) -> None:
        self.function = function
        self.config = config
        self.prompts = prompts

    def close(self) -> None:
        """Nothing to let go of."""

    def judge_completions(
        self, problems: Sequence[Problem], completions: Sequence[Sequence[Completion]]
    ) -> list[list[Judgement]]:
        """Judgements by problem; the function is called once. Raises DataError where it fails or gives no numbers."""
        rows = [(problem, c) for problem, of_p in zip(problems, completions, strict=True) for c in of_p]
        judged = iter([self._judgement(value) for value in self._rewards(rows)] if rows else [])
        return [[next(judged) for _ in of_p] for of_p in completions]

    def _judgement(self, reward: float) -> Judgement:
        return Judgement(Verdict.CORRECT if reward >= self.config.solved else Verdict.WRONG, reward)

    def _rewards(self, rows: Sequence[tuple[Problem, Completion]]) -> list[float]:
        try:
            found = self.function(**self._arguments(rows))
            if inspect.iscoroutine(found):
                found.close()
                raise DataError(f"{self._name} is async, which is not supported; make it a plain function")
            return self._checked(found, len(rows))
        except DataError:
            raise
        except Exception as error:  # a user's code raises anything at all
            raise DataError(f"{self._name} raised {type(error).__name__}: {error}{place(error)}") from error

    def _arguments(self, rows: Sequence[tuple[Problem, Completion]]) -> dict[str, list[Any]]:
        columns = [columns_of(problem) for problem, _ in rows]
        names = [name for name in dict.fromkeys(name for row in columns for name in row) if name not in NOT_COLUMNS]
        if self.config.messages:
            prompts: list[Any] = [self.prompts.messages(problem) for problem, _ in rows]
            completions: list[Any] = [[{"role": "assistant", "content": c.text}] for _, c in rows]
        else:
            prompts, completions = [self.prompts.text(problem) for problem, _ in rows], [c.text for _, c in rows]
        ids = [c.completion_ids for _, c in rows]
        by_name = {name: [row.get(name) for row in columns] for name in names}
        return {**by_name, "prompts": prompts, "completions": completions, "completion_ids": ids}

    def _checked(self, found: Any, count: int) -> list[float]:
        values = found.tolist() if hasattr(found, "tolist") else found
        if not isinstance(values, (list, tuple)):
            raise DataError(f"{self._name} should return a list of numbers (got {type(found).__name__})")
        if len(values) != count:
            raise DataError(f"{self._name} should return one number per completion, {count} (got {len(values)})")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
                raise DataError(f"{self._name} should return finite numbers, 0.0 where nothing is earned (got {value})")
        return [float(value) for value in values]

    @property
    def _name(self) -> str:
        return f"reward.function: {self.config.function or function_name(self.function)}"


def columns_of(problem: Problem) -> dict[str, Any]:
    """What a function is told of a problem: its question, answer and level, and the data's own columns."""
    return {"question": problem.question, "answer": problem.answer, "level": problem.level, **problem.columns}


def place(error: BaseException) -> str:
    """Where an exception came from, as ` (letters.py, line 12)`."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first is the call here
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def function_name(function: Function) -> str:
    """What to call a function in a configuration; `load_function` finds it again unless it was made in a notebook."""
    module = getattr(function, "__module__", None) or MAIN
    return f"{module}:{getattr(function, '__qualname__', type(function).__name__)}"


def load_function(name: str | None) -> Function | None:
    """The function that `reward.function` names, FILE.py:NAME or package.module:NAME; None without one.

    Runs the code of that file. Raises ConfigError where there is no such function.
    """
    if name is None:
        return None
    where, _, attribute = name.rpartition(":")
    if not where or not attribute:
        raise ConfigError(f"reward.function: should be FILE.py:NAME or package.module:NAME (got {name})")
    if where == MAIN:
        raise ConfigError(
            f"reward.function: {attribute} was made in a notebook or script, where it cannot be found again; put it "
            f"into a file and name that, as FILE.py:{attribute}, or go on in Python with ExPOTrainer"
        )
    function = getattr(_module(where), attribute, None)
    if not callable(function):
        raise ConfigError(f"reward.function: {where} has no function {attribute}")
    return function


def _module(where: str) -> ModuleType:
    """The module of a file or of a dotted name, imported."""
    path = Path(where).expanduser()
    if path.suffix == ".py" and not path.is_file():
        raise ConfigError(f"reward.function: there is no file {where} (looked from {Path.cwd()})")
    try:
        if path.suffix != ".py":
            return importlib.import_module(where)
        spec = importlib.util.spec_from_file_location(f"expo_lite_reward_{path.stem}", path)
        assert spec is not None and spec.loader is not None  # true of every .py file
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses and pickle look it up there
        spec.loader.exec_module(module)
        return module
    except Exception as error:  # whatever the code of a file can raise
        said = f"{type(error).__name__}: {error}{place(error)}"
        raise ConfigError(f"reward.function: {where} cannot be imported ({said})") from error
