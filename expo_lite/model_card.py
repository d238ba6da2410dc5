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
# run this in the run's folder
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = "{model_source(config.policy.model)}"
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), "adapter")
task = {config.prompt.task!r}
messages = [{{"role": "user", "content": task.replace("{{question}}", "What is 12+34?")}}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens={config.rollout.max_new_tokens})
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```
"""
