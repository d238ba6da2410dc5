"""A stricter judge of the tiny world's sums: a right answer with a wrong step on the way is worth half."""

from expo_lite.core.boxes import boxed_answer
from expo_lite.problems.tiny_world import steps_right


def reward(completions, question, answer, **columns):
    """1 where answer and steps are right, 0.5 where the answer alone is, else 0."""
    return [worth(*attempt) for attempt in zip(completions, question, answer, strict=True)]


def worth(text, question, answer):
    """Of one attempt."""
    if boxed_answer(text) != answer:
        return 0.0
    return 1.0 if steps_right(question, text) else 0.5
