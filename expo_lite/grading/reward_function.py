"""Custom reward functions, with TRL's signature, for tasks that the verifier of mathematics does not know."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from expo_lite.config.settings import RewardConfig
from expo_lite.core.errors import ConfigError, DataError
from expo_lite.core.records import Completion, Problem, Verdict
from expo_lite.grading.judge import Judgement
from expo_lite.model.prompts import Prompts

Function = Callable[..., Any]
"""f(prompts, completions, completion_ids, **columns) -> one number per completion."""
NOT_COLUMNS = ("prompt", "completion", "completion_ids")  # TRL's own names
MAIN = "__main__"
AS_MESSAGES = "a function for chat messages, as TRL hands over of chat data, wants reward.messages true"


class RewardFunction:
    """Judges by a function: right is what earns at least `solved`.

    The function is called as TRL's GRPOTrainer calls it: with lists that have one entry per completion, all by name.
    Prompts and completions are text, of a chat its last turn, or with `messages` chat messages, all turns; the columns
    are the data's own, repeated for each completion, and question, answer, level and solution. trainer_state, log_extra
    and log_metric are left out.
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
        arguments = self._arguments(rows)
        refuse_narrow(self.function, arguments, self._name)
        try:
            found = self.function(**arguments)
            if inspect.iscoroutine(found):
                found.close()
                raise DataError(f"{self._name} is async, which is not supported; make it a plain function")
            return self._checked(found, len(rows))
        except DataError:
            raise
        except Exception as error:  # a user's code raises anything at all
            file = inspect.unwrap(self.function).__code__.co_filename if inspect.isfunction(self.function) else None
            hint = "" if self.config.messages or not isinstance(error, TypeError) else f"; {AS_MESSAGES}"
            said = f"{self._name} raised {type(error).__name__}: {error}{place(error, file)}{hint}"
            raise DataError(said) from error

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
        numbers = [as_number(value) for value in values]
        for value, number in zip(values, numbers, strict=True):
            if not math.isfinite(number):
                raise DataError(f"{self._name} should return finite numbers, 0.0 where nothing is earned (got {value})")
        return numbers

    @property
    def _name(self) -> str:
        return f"reward.function: {self.config.function or function_name(self.function)}"


def as_number(value: Any) -> float:
    """A number, also one of another library; what is none is not finite."""
    try:
        return float(value) if not isinstance(value, str) else math.nan
    except (TypeError, ValueError):
        return math.nan


def columns_of(problem: Problem) -> dict[str, Any]:
    """What a function is told of a problem: its question, answer, level, solution, and the data's own columns."""
    names = ("question", "answer", "level", "solution")
    return {**{name: getattr(problem, name) for name in names}, **problem.columns}


def refuse_narrow(function: Function, arguments: Iterable[str], name: str) -> None:
    """Raises DataError for a function that does not take what it is handed, or wants more."""
    try:
        inspect.signature(function).bind(**dict.fromkeys(arguments))
    except TypeError as error:
        raise DataError(
            f"{name} cannot be called with {', '.join(arguments)} ({error}); let its arguments end with **columns"
        ) from None
    except ValueError:  # some built-in functions do not tell
        return


def place(error: BaseException, file: str | None) -> str:
    """Where in `file` an exception came from, as ` (letters.py, line 12)`; a mistake in its syntax says so itself."""
    if file is None:
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == Path(file).resolve()]
    return f" ({Path(file).name}, line {lines[-1]})" if lines else ""


def source_digest(function: Function) -> str:
    """Changes with the code of the function's file, or of the function where there is none."""
    try:
        file = inspect.getsourcefile(function)
        text = Path(file).read_text(encoding="utf-8") if file and Path(file).is_file() else inspect.getsource(function)
    except (OSError, TypeError):  # made by a program, or no plain function
        text = function_name(function)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def function_name(function: Function) -> str:
    """What to call a function in a configuration; `load_function` finds it again if it is one of a module."""
    name = getattr(function, "__qualname__", type(function).__name__)
    plain = inspect.isfunction(function) or inspect.isbuiltin(function)
    return f"{function.__module__ if plain and '<' not in name else MAIN}:{name}"


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
    function: Any = _module(where)
    for part in attribute.split("."):
        function = getattr(function, part, None)
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
        sys.path.insert(0, str(path.resolve().parent))  # as for a script: its neighbours can be imported
        try:
            spec.loader.exec_module(module)
        finally:
            sys.path.remove(str(path.resolve().parent))
        return module
    except (Exception, SystemExit) as error:  # whatever the code of a file can raise
        said = f"{type(error).__name__}: {error}{place(error, str(path))}"
        raise ConfigError(f"reward.function: {where} cannot be imported ({said})") from error
