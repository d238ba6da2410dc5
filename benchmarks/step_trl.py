"""The side of `benchmarks/step.py` that is TRL's GRPOTrainer, with LoRA as here."""

from __future__ import annotations

import json
import tempfile
import time
from typing import Any

import torch
import trl
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from benchmarks.step_case import (
    LEARNING_RATE,
    Case,
    Measured,
    Stopwatch,
    config_of,
    forget_peak,
    problems_of,
    resident_mib,
    scripted_reward,
)
from expo_lite.config.model_files import model_source
from expo_lite.config.settings import Config
from expo_lite.grading.verifier import Verifier
from expo_lite.model.prompts import Prompts


class Timed(GRPOTrainer):
    """Tells a stopwatch how long generating takes, and what was generated."""

    watch: Stopwatch

    def _generate(self, *arguments: Any) -> Any:
        began = time.perf_counter()
        written = super()._generate(*arguments)
        self.watch.generating += time.perf_counter() - began
        prompts, completions = (sum(map(len, ids)) for ids in written[:2])
        measured = self.watch.measured
        measured.prompt_tokens, measured.generated, measured.trained = prompts, completions, completions
        return written


class Watched(TrainerCallback):
    """Tells a stopwatch when a step begins and ends."""

    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.watch.start()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.watch.stop()


def settings_of(case: Case, config: Config) -> dict[str, Any]:
    """What bears on the time of a step in GRPOConfig: the best that were found (docs/performance.md)."""
    return {
        "per_device_train_batch_size": case.at_once,
        "gradient_accumulation_steps": case.rollouts // case.at_once,
        "num_generations": case.group,
        "max_completion_length": case.tokens,
        "generation_kwargs": {"min_new_tokens": case.tokens},
        "temperature": config.rollout.temperature,
        "learning_rate": LEARNING_RATE,
        "loss_type": "grpo",
        "beta": 0.0,
        "bf16": False,  # no autocast: the weights have the type that is asked for
        "gradient_checkpointing": False,
        **case.trl,
    }


def trainer_of(case: Case, config: Config, model: Any, tokenizer: Any, verifier: Verifier, folder: str) -> Timed:
    """TRL's trainer for the case."""
    prompts = Prompts(tokenizer, config.prompt)
    every = [problem for of_step in problems_of(case) for problem in of_step]
    arguments = GRPOConfig(
        output_dir=folder,
        max_steps=case.steps,
        shuffle_dataset=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        **settings_of(case, config),
    )
    lora = LoraConfig(
        r=config.policy.lora_rank,
        lora_alpha=config.policy.lora_alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return Timed(
        model=model,
        args=arguments,
        reward_funcs=scripted_reward(case, verifier),  # type: ignore[arg-type]
        train_dataset=Dataset.from_list([{"prompt": prompts.messages(p), "answer": p.answer} for p in every]),
        processing_class=tokenizer,
        peft_config=lora,
    )


def trls(case: Case, started: float) -> Measured:
    """The steps of TRL's GRPOTrainer."""
    torch.set_num_threads(case.threads)
    config, source = config_of(case), model_source(case.source)
    measured, empty = Measured(), resident_mib()
    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, case.dtype))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    forget_peak()
    measured.loaded_mib, measured.model_mib = resident_mib(), resident_mib() - empty
    with tempfile.TemporaryDirectory() as folder, Verifier() as verifier:
        trainer = trainer_of(case, config, model, tokenizer, verifier, folder)
        trainer.watch = Stopwatch(measured, started)
        trainer.add_callback(Watched(trainer.watch))
        trainer.train()
    measured.peak_mib = max(measured.loaded_mib, resident_mib(highest=True))
    measured.settings = f"TRL {trl.__version__}, unquantised {case.dtype}, {json.dumps(settings_of(case, config))}"
    return measured
