"""The answers of an evaluation in its folder, kept as they come, so that an interrupted one goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from expo_lite.config.dotted import flat
from expo_lite.config.settings import Config
from expo_lite.core.errors import CheckpointError
from expo_lite.core.records import Answered, Problem
from expo_lite.model.adapter_files import WEIGHTS, adapter_folder
from expo_lite.problems import ProblemSet
from expo_lite.runs import files
from expo_lite.runs.lock import RunLock
from expo_lite.runs.open import short

ANSWERS, SETTINGS = "answers.jsonl", "settings.json"

Answer = Callable[[Sequence[Problem]], list[Answered]]


def settings_of(config: Config, problems: Sequence[Problem], source: str | None = None) -> dict[str, Any]:
    """All that decides what is answered and judged; answers made under other settings do not belong together.

    `source` stands for the code of a reward function; None without one.
    """
    adapter = config.policy.adapter
    return {
        "model": config.policy.model,
        "backend": config.policy.backend,
        "quantization": config.policy.quantization,
        "dtype": config.policy.dtype,
        "adapter": files.digest(adapter_folder(adapter) / WEIGHTS) if adapter else None,
        "problems": ProblemSet([], [], list(problems)).digest(),
        "seed": config.seed,
        "samples": config.evaluation.samples,
        "temperature": config.rollout.temperature,
        "max_prompt_tokens": config.rollout.max_prompt_tokens,
        "max_new_tokens": config.rollout.max_new_tokens,
        # sheets of before there were examples do not name them
        "prompt": config.prompt.model_dump(mode="json", exclude=set() if config.prompt.examples else {"examples"}),
        **({"reward": {**config.reward.model_dump(), "source": source}} if source else {}),
    }


class AnswerSheet:
    """The folder of one evaluation, locked for this process until `close`.

    Raises CheckpointError where it is in use, cannot be written, or holds answers made under other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.path = folder / ANSWERS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = RunLock(folder / ".lock", "--to")
        except OSError as error:
            raise CheckpointError(f"--to: {folder} cannot be written ({error.strerror or error})") from None
        try:
            self._claim(settings)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the lock."""
        self._lock.release()

    def __enter__(self) -> AnswerSheet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _claim(self, settings: dict[str, Any]) -> None:
        """Note the settings, or see that they are those noted already."""
        place = self.folder / SETTINGS
        if not self.path.exists():
            files.write_text(place, files.to_json(settings, indent=2) + "\n")
            return
        try:
            was = flat(json.loads(place.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            was = {}
        now = flat(settings)
        changed = [f"{n} {short(was.get(n))}, now {short(now[n])}" for n in now if now[n] != was.get(n)]
        if changed:
            raise CheckpointError(
                f"{self.folder} holds answers made with other settings ({'; '.join(changed)}); choose another --to"
            )

    def complete(
        self, model: str, problems: Sequence[Problem], at_once: int, answer: Answer, told: Callable[[int], None]
    ) -> list[Answered]:
        """Every problem's answers, in order: those that stand here already, and `answer` of the others.

        They are asked `at_once` at a time, and what was cut off within such a chunk is asked again with all of it:
        then the model sees the same batches as if nothing had happened. `told` hears how many are answered so far.
        """
        kept = self._read()
        out: list[Answered] = []
        for start in range(0, len(problems), at_once):
            chunk = problems[start : start + at_once]
            found = [kept[model, problem.id] for problem in chunk if (model, problem.id) in kept]
            if len(found) < len(chunk):
                found = answer(chunk)
                self._replace(model, found)
            out += found
            told(len(out))
        return out

    def _read(self) -> dict[tuple[str, str], Answered]:
        """The answers by model and problem."""
        records = files.read_jsonl(self.path)
        return {(r["model"], r["problem"]): Answered(**{k: r[k] for k in r if k != "model"}) for r in records}

    def _replace(self, model: str, found: Sequence[Answered]) -> None:
        """Add a chunk in one write; what is left of it, and a torn last line, go."""
        again = {(model, answered.problem) for answered in found}
        lines = files.jsonl_lines(self.path)
        kept = b"".join(line + b"\n" for line, r in lines if (r["model"], r["problem"]) not in again)
        if self.path.exists() and kept != self.path.read_bytes():
            files.write_text(self.path, kept.decode("utf-8"))
        files.append_jsonl(self.path, [{"model": model, **asdict(answered)} for answered in found])
