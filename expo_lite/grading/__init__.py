"""Completions in; verdicts, rewards and scores with their intervals out.

Extraction and equality of answers, reward functions of one's own, pass@1 and pass@k by level.
May import `model` and the rooms below it.
"""
