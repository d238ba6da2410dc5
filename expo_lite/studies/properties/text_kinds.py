"""Four kinds of text on held-out problems, written by the model (the experts' apart) and read by it; see `readings`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import chain

from expo_lite.config.dotted import replaced
from expo_lite.config.settings import Config
from expo_lite.core.progress import OnProgress, announced, in_phase, silent
from expo_lite.core.records import Completion, Problem, TrainingSequence, Verdict
from expo_lite.grading.judge import attempt_verdicts
from expo_lite.model.sampler import SampleRequest
from expo_lite.problems import tiny_world
from expo_lite.runs.assemble import Assembly
from expo_lite.studies.properties.readings import EXPERT, RIGHT, SELF, WRONG, Reading, Text
from expo_lite.training.answer_span import answer_span, spelled, with_answer
from expo_lite.training.explainer import Explainer
from expo_lite.training.sequence_logprobs import sequence_logprobs


def read_all_kinds(
    parts: Assembly, config: Config, trained: bool, on_progress: OnProgress = silent
) -> tuple[list[Reading], list[str]]:
    """The texts of all kinds on the test problems, with notes on what was left out.

    The same model writes and reads: with the adapter if `trained`, else the base.
    """
    problems = parts.problems.test
    with nullcontext() if trained else parts.policy.reference():
        explained, notes = self_explanations(parts, config, problems, in_phase("explanations", on_progress))
        experts, more_notes = expert_solutions(parts, config, problems)
        attempts = own_attempts(parts, config, problems, in_phase("attempts", on_progress))
        texts = [*explained, *experts, *attempts]
        with announced("reading", len(texts), "texts", on_progress):
            return read(texts, parts), notes + more_notes


def self_explanations(
    parts: Assembly, config: Config, problems: Sequence[Problem], on_progress: OnProgress = silent
) -> tuple[list[Text], list[str]]:
    """Explanations of the told answer that training would accept; the note says how many it would not."""
    # also of a model trained by another method
    config = replaced(config, {"explanation.source": "self", "explanation.hint": "answer"})
    explainer = Explainer(config, parts.sampler, parts.prompts, parts.judge)
    written = list(chain.from_iterable(explainer.explain(problems, 0, on_progress)))
    accepted = [e for e in written if e.rejected is None]
    note = f"{len(accepted)} of {len(written)} self-explanations pass training's filters; the others are left out."
    return [Text(SELF, e.problem, e.completion, e.verdict is Verdict.CORRECT) for e in accepted], [note]


def expert_solutions(parts: Assembly, config: Config, problems: Sequence[Problem]) -> tuple[list[Text], list[str]]:
    """The data set's solutions, as if the model had written them, of at most `rollout.max_new_tokens` tokens."""
    limit, tokenizer = config.rollout.max_new_tokens, parts.policy.tokenizer
    ids_of = [(p, parts.prompts.completion(p.solution)) for p in problems if p.solution is not None]
    if not ids_of:
        return [], ["Expert solutions are left out: the data has none for these problems."]
    texts = [
        Text(EXPERT, p, Completion(parts.prompts.task(p), ids, [], True, spelled(ids, tokenizer)), True)
        for p, ids in ids_of
        if len(ids) <= limit
    ]
    too_long = len(ids_of) - len(texts)
    return texts, [f"{too_long} expert solutions of more than {limit} tokens are left out."] if too_long else []


def own_attempts(
    parts: Assembly, config: Config, problems: Sequence[Problem], on_progress: OnProgress = silent
) -> list[Text]:
    """The model's own attempts under the task prompt, right and wrong; one that was cut off is wrong.

    One that could not be judged in time is neither.
    """
    rollout, samples = config.rollout, config.evaluation.samples
    requests = [SampleRequest(parts.prompts.task(p), samples, (config.seed, "properties", p.id)) for p in problems]
    written = parts.sampler.sample(requests, rollout.max_new_tokens, rollout.temperature, on_progress=on_progress)
    with announced("verifying", sum(map(len, written)), "completions", on_progress):
        verdicts = attempt_verdicts(parts.judge, problems, written)
    return [
        Text(RIGHT if verdict is Verdict.CORRECT else WRONG, problem, completion, verdict is Verdict.CORRECT)
        for problem, completions, of_problem in zip(problems, written, verdicts, strict=True)
        for completion, verdict in zip(completions, of_problem, strict=True)
        if verdict is not Verdict.TIMEOUT
    ]


def read(texts: Sequence[Text], parts: Assembly) -> list[Reading]:
    """What each text is to the model as it stands, at temperature 1 under the unhinted prompt."""
    sequences = [TrainingSequence(parts.prompts.task(t.problem), t.completion.completion_ids) for t in texts]
    with parts.policy.generating():
        logprobs = [own.tolist() for own in sequence_logprobs(sequences, parts.policy, parts.sampler.units)]
        answers = answer_logprobs(texts, logprobs, parts)
    steps = [tiny_world.steps_right(t.problem.question, t.completion.text) for t in texts]
    nlls = [-sum(own) / len(own) for own in logprobs]
    return [Reading(*values) for values in zip(texts, nlls, answers, steps, strict=True)]


def answer_logprobs(texts: Sequence[Text], logprobs: Sequence[Sequence[float]], parts: Assembly) -> list[float | None]:
    """log pi(a* | q, c) of each text, None without a final answer; `logprobs` are those of the texts' tokens.

    c is the text up to its final answer. A right text has its answer's tokens already; in a wrong one the true answer
    is put in place of its own.
    """
    corrected = {i: with_true_answer(text, parts) for i, text in enumerate(texts) if not text.right}
    asked = {i: sequence for i, sequence in corrected.items() if sequence is not None}
    scored = sequence_logprobs(list(asked.values()), parts.policy, parts.sampler.units)
    found = {i: float(own.sum()) for i, own in zip(asked, scored, strict=True)}
    for i, (text, own) in enumerate(zip(texts, logprobs, strict=True)):
        completion = text.completion
        span = answer_span(completion.completion_ids, completion.text, parts.policy.tokenizer) if text.right else None
        if span is not None:
            found[i] = float(sum(own[slice(*span)]))
    return [found.get(i) for i in range(len(texts))]


def with_true_answer(text: Text, parts: Assembly) -> TrainingSequence | None:
    """Prompt and chain of thought as the prompt, the true answer's tokens as the completion."""
    written, answer = text.completion, text.problem.answer
    found = with_answer(written.completion_ids, written.text, parts.policy.tokenizer, answer)
    return TrainingSequence(parts.prompts.task(text.problem) + found[0], found[1]) if found else None
