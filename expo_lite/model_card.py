"""A run's README: what the adapter is and how it was made."""

from __future__ import annotations

from expo_lite.checkpoint import Progress
from expo_lite.config import Config
from expo_lite.evaluation import Evaluation
from expo_lite.model_files import model_source


def model_card(config: Config, progress: Progress, before: Evaluation, after: Evaluation) -> str:
    """Markdown with the scores before and after, and how to load the adapter."""
    first = before.levels[0]
    rows = "\n".join(
        f"| {old.level} | {old.pass_at_1} | {new.pass_at_1} | {old.pass_at_k} | {new.pass_at_k} |"
        for old, new in zip(before.levels, after.levels, strict=True)
    )
    return f"""# LoRA adapter for {config.policy.model}

Trained with ExPO-Lite for {progress.step} steps on `{config.data.source}`
(explanations: {config.explanation.source}, seed {config.seed}).
The adapter of step {progress.best_step} was best on validation.
All settings are in `config.yaml`, versions in `environment.json`.

Held-out problems, {first.problems} a level, {first.samples} samples each at temperature {config.rollout.temperature},
per cent with 95 % bootstrap intervals over problems:

| level | pass@1 before | pass@1 after | pass@{first.k} before | pass@{first.k} after |
|---|---|---|---|---|
{rows}

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("{model_source(config.policy.model)}")
model = PeftModel.from_pretrained(base, "adapter")
```
"""
