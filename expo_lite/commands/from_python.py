"""What the command line does, from Python: `from expo_lite import ExPOTrainer, load_config` (docs/python.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expo_lite.commands.evaluate import checked_ks
from expo_lite.config.dotted import replaced
from expo_lite.config.hub import hub_names, offline_if_unreachable
from expo_lite.config.presets import preset_path
from expo_lite.config.process_setup import avoid_fragments, hush_libraries
from expo_lite.config.read import Request, resolve
from expo_lite.config.settings import Config
from expo_lite.config.versions import require_tested
from expo_lite.config.yaml_file import Layer, read_yaml
from expo_lite.core.errors import ConfigError
from expo_lite.model.adapter_files import shaped_like
from expo_lite.model.unsloth import import_early
from expo_lite.runs import notebook
from expo_lite.runs.folder import EVAL, METRICS, SAMPLES, RunDir
from expo_lite.runs.history import validation_curves
from expo_lite.runs.open import default_folder, refuse_changes, settings_of

if TYPE_CHECKING:
    from expo_lite.grading.reward_function import Function
    from expo_lite.studies.before_after import Comparer
    from expo_lite.studies.comparison import Comparison
    from expo_lite.studies.evaluate.scoring import Scored

ASKED_FOR = {"samples": "evaluation.samples", "problems": "data.test_problems", "temperature": "rollout.temperature"}
"""Settings that `evaluate` takes by a shorter name."""


def load_config(source: str | Path = "tiny", **settings: Any) -> Config:
    """A preset's name or a YAML file, and settings over it: `load_config("8gb", steps=50, rollout={"group_size": 4})`.

    Settings of a section are a dictionary. Without `run`, the run's folder is the one the command line would take.
    Raises ConfigError with every mistake, one per line.
    """
    is_file = isinstance(source, Path) or str(source).endswith((".yaml", ".yml"))
    path = Path(source).expanduser() if is_file else preset_path(str(source))
    config = resolve([read_yaml(path, str(source) if is_file else f"presets/{source}.yaml"), Layer(values=settings)])
    if config.run is not None:
        return config
    request = Request(config, None if is_file else str(source), resume=False, dry_run=False)
    return replaced(config, {"run": str(default_folder(request))})


def with_function(config: Config, function: Function) -> Config:
    """The configuration with the function's name. Raises ConfigError where it names another."""
    from expo_lite.grading.reward_function import function_name

    name, named = function_name(function), config.reward.function
    if named is not None and named != name:
        raise ConfigError(f"reward.function: names {named}, and {name} was given; leave one of them out")
    return replaced(config, {"reward.function": name})


@dataclass(frozen=True)
class Trained:
    """Where a training stands."""

    run: Path
    step: int
    steps: int

    @property
    def finished(self) -> bool:
        """Whether all steps are done; else `train()` goes on from here."""
        return self.step >= self.steps

    @property
    def adapter(self) -> Path:
        """The adapter that was best on validation, as PEFT loads it."""
        return self.run / "adapter"

    def __str__(self) -> str:
        end = "finished" if self.finished else "stopped; train() goes on from here"
        return f"step {self.step} of {self.steps}, {end}: {self.run}"


class ExPOTrainer:
    """Trains, scores and explains with one configuration. Nothing is loaded before a method needs it.

    `config` may be a preset's name or a file, too. `reward_function` has TRL's signature; what it must give for a
    completion to count as right is `config.reward.solved`. Mistakes are kinds of ExpoLiteError.
    """

    def __init__(self, config: Config | str | Path = "tiny", reward_function: Function | None = None) -> None:
        config = config if isinstance(config, Config) else load_config(config)
        if reward_function is not None:
            config = with_function(config, reward_function)
        if config.run is None:
            config = replaced(config, {"run": str(default_folder(Request(config, None, False, False)))})
        self.config = config
        self.reward_function = reward_function
        self._comparer: Comparer | None = None

    @property
    def run(self) -> Path:
        """The run's folder, as `python -m expo_lite.train` makes it."""
        return Path(self.config.run or "").expanduser()

    @property
    def curves(self) -> Path:
        """The picture of the learning curves, renewed with each validation."""
        return RunDir(self.run).curves

    def __enter__(self) -> ExPOTrainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model that `compare` and `explain` keep open."""
        if self._comparer is not None:
            from expo_lite.memory.halving import free_memory

            self._comparer.close()
            self._comparer = None
            free_memory()

    def train(self) -> Trained:
        """Train. A run that was stopped goes on from its last checkpoint; a finished one is left as it is.

        Ctrl-C, or a notebook's stop button, ends it after the step under way, and nothing is lost. Raises ConfigError
        where the run's folder holds a run with other settings.
        """
        self.close()
        self._prepare()
        from expo_lite.memory.halving import free_memory
        from expo_lite.runs import session

        begun = self._refuse_changes()
        if not self._finished():
            request = Request(self.config, None, resume=begun, dry_run=False)
            session.train(request, notebook.console(), self.reward_function, notebook.live_picture())
            free_memory()
        return Trained(self.run, self._status().get("step", 0), self.config.steps)

    def evaluate(
        self,
        k: Sequence[int] = (1, 4),
        samples: int | None = None,
        problems: int | None = None,
        temperature: float | None = None,
    ) -> Scored:
        """pass@k of base and adapter on held-out problems by level; the answers are kept in the run's folder.

        `samples` completions a problem (the largest k), `problems` a level (data.test_problems). Raises ConfigError
        before there is an adapter.
        """
        self.close()
        adapter = RunDir(self.run).adapter
        if not adapter.is_dir():
            raise ConfigError(f"evaluate: {self.run} has no adapter yet; train() saves one at its first validation")
        ks, samples = checked_ks(k, samples)
        self._refuse_changes()
        self._prepare()
        from expo_lite.grading.scores import ADAPTER, BASE
        from expo_lite.memory.halving import free_memory
        from expo_lite.studies.evaluate import scoring

        given = {"samples": samples, "problems": problems, "temperature": temperature}
        given = {name: value for name, value in given.items() if value is not None}
        folder = self.run / "-".join(["evaluation", *(f"{name}{value}" for name, value in given.items())])
        changes = {ASKED_FOR[name]: value for name, value in given.items()}
        config = replaced(self.config, {"policy.adapter": str(adapter), **changes})
        both, console = [BASE, ADAPTER], notebook.console()
        found = scoring.scored(config, self.config.data, both, ks, folder, console, self.reward_function)
        free_memory()
        if found is None:
            raise KeyboardInterrupt
        return found

    def compare(self, question: str, answer: str = "", explained_by: str = "base", **columns: Any) -> Comparison:
        """The question answered by the base and, once there is one, by the trained adapter.

        With the known answer also judged, and explained: by the base (adapter off), or `explained_by="trained"`.
        `columns` are what else a reward function needs. The model stays open for the next question.
        """
        self._refuse_changes()
        from expo_lite.core.records import Problem
        from expo_lite.studies.before_after import checked_explainer

        adapter = RunDir(self.run).adapter
        trained = adapter.is_dir()
        explained_by = checked_explainer(explained_by, trained)
        comparer = self._open(adapter if trained else None)
        if trained:
            comparer.use_adapter(adapter)
        problem = Problem("asked", question, answer, columns=columns)
        return comparer.compare(problem, trained, self.config.seed, explained_by=explained_by)

    def explain(self, question: str, answer: str, explained_by: str = "base", **columns: Any) -> Comparison:
        """`compare` with the known answer: what the base (or `explained_by="trained"`) writes when told it.

        Also whether training would take that, and how likely it is to both, answer hidden.
        """
        if not answer:
            raise ConfigError("explain: give the known answer (compare() does without)")
        return self.compare(question, answer, explained_by, **columns)

    def metrics(self) -> list[dict[str, Any]]:
        """One record per step; docs/reading-a-run.md says what the numbers mean."""
        return RunDir(self.run).read(METRICS)

    def validations(self) -> dict[int, dict[int, float]]:
        """Held-out problems solved (pass@1, shares) by step and level; step 0 is the base."""
        return validation_curves(RunDir(self.run).read(EVAL))

    def samples(self) -> list[dict[str, Any]]:
        """Attempts and explanations, accepted or not and why."""
        return RunDir(self.run).read(SAMPLES)

    def _refuse_changes(self) -> bool:
        """Whether the folder holds a run already. Raises ConfigError where its settings are others."""
        begun = RunDir(self.run)
        if begun.config.is_file():
            refuse_changes(settings_of(begun), self.config, begun)
        return begun.config.is_file()

    def _status(self) -> dict[str, Any]:
        return RunDir(self.run).read_status()

    def _finished(self) -> bool:
        status = self._status()
        return status.get("state") == "finished" and status.get("step", 0) >= self.config.steps

    def _open(self, adapter: Path | None) -> Comparer:
        if self._comparer is None:
            self._prepare()
            from expo_lite.studies.before_after import assemble_comparer

            config = shaped_like(adapter, self.config) if adapter else self.config
            self._comparer = assemble_comparer(config, self.reward_function)
        return self._comparer

    def _prepare(self) -> None:
        """What entry points do before they load anything."""
        hush_libraries()
        avoid_fragments()
        offline_if_unreachable(hub_names(self.config))
        require_tested()
        import_early(self.config.policy)
