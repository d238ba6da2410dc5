"""Which answer is read out of a column of answers, and which texts are refused."""

from __future__ import annotations

import pytest

from expo_lite.problems.gold import Unmarked, gold_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so $x = \boxed{3}$ #### 4", "3"),
        (r"so $x = \boxed 3$.", "3"),
        ("48 / 2 = 24 #### no\n#### 1,024", "1,024"),
        ("  7 \n", "7"),
        # What follows ####, on its line
        ("2+3=5\n#### 5\nChecked by hand.", "5"),
        ("#### 5 apples\n\nI have checked this by hand.", "5 apples"),
        ("####\n5", "5"),
        ("#### **5**", "5"),
        ("#### Final answer\n5\n", "5"),
        ("#### The answer is 5.", "5"),
        ("#### $x < 5$\nwhere x is real", "$x < 5$"),
        ("#### $\\begin{pmatrix}\n1 \\\\ 2\n\\end{pmatrix}$", "$\\begin{pmatrix}\n1 \\\\ 2\n\\end{pmatrix}$"),
        # A sentence
        ("The answer is 5", "5"),
        ("The answer is 5.", "5"),
        ("the final answer is: $\\frac{1}{2}$.", "$\\frac{1}{2}$"),
        ("2+3=5, so the answer is 5.\nChecked by hand.", "5"),
        ("The answer is not 4. The answer is 5", "5"),
        ("Answer: 5", "5"),
        ("**Answer:** 5 square metres", "5 square metres"),
        ("**Answer: 5**", "5"),
        ("Final Answer:\n5", "5"),
        ("The result is 5.", "5"),
        ("The answer is all real numbers.", "all real numbers"),
        ("答案是5。", "5"),
        ("答案：5", "5"),
        # Marks around it
        ("**5**", "5"),
        ("__5__", "5"),
        ("*5*", "5"),
        ("`5`", "5"),
        ("<answer>5</answer>", "5"),
        ('["\\\\frac{1}{2}"]', "\\frac{1}{2}"),
        # The answer alone
        ("2**3", "2**3"),
        ("2**3 + 4**5", "2**3 + 4**5"),
        ("2*3*4", "2*3*4"),
        ("x__1", "x__1"),
        ("[1, 2]", "[1, 2]"),
        ("1 < x < 2", "1 < x < 2"),
        ("3.", "3."),
        ("There are no solutions", "There are no solutions"),
        ("\\[\n5\n\\]", "\\[\n5\n\\]"),
        ("x = 1\ny = 2", "x = 1\ny = 2"),
        ("Answers: 5", "Answers: 5"),
        ("answer", "answer"),
        ("", ""),
    ],
)
def test_what_is_read(text: str, answer: str) -> None:
    assert gold_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("The answer is 5 because two and three make it", "a sentence that goes on"),
        ("The answer is 5, since 2+3=5", "a sentence that goes on"),
        ("The answer is 5. Well done!", "a sentence that goes on"),
        ("Thus x = 5.", "a sentence around"),
        ("So, 5", "a sentence around"),
        ("Total: $5", "a sentence around"),
        ("5\n\nChecked by hand.", "several lines"),
        ("Two and two make four.\n4", "several lines"),
        ("#### Step 3: add them\nand so 5", "several lines"),
        ("#### Let us add the two numbers first\n5", "several lines"),
        ('["1", "2"]', "a list"),
        ('["1", 2', "a list"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(Unmarked, match=why):
        gold_answer(text)
