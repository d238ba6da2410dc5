"""A custom task: the letters of a word in alphabetical order.

`python docs/examples/letters.py letters.jsonl` makes the problems; `reward` judges the answers.
"""

import json
import random
import re
import sys

ANSWER = re.compile(r"<answer>\s*(\w*)\s*</answer>")


def reward(completions, answer, **columns):
    """For each completion the share of letters in their place, from 0 to 1; 0 without <answer></answer>."""
    return [share_in_place(text, right) for text, right in zip(completions, answer, strict=True)]


def share_in_place(text, right):
    """Of the last marked answer in a text."""
    marked = ANSWER.findall(text)
    if not marked:
        return 0.0
    given = marked[-1].lower()
    return sum(a == b for a, b in zip(given, right)) / max(len(given), len(right))  # noqa: B905  one may be longer


def problems(count, seed=0):
    """Words of 4 to 8 letters that can be spoken; the level grows with the length."""
    rng = random.Random(seed)
    for number in range(count):
        length = 4 + number % 5
        word = "".join(rng.choice("aeiou" if place % 2 else "bcdfghklmnprst") for place in range(length))
        question = f"Write the letters of the word {word} in alphabetical order, as <answer>...</answer>."
        yield {"question": question, "answer": "".join(sorted(word)), "level": length - 3}


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.writelines(json.dumps(problem) + "\n" for problem in problems(2000))
