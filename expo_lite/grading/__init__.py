"""Completions in; verdicts, rewards and scores with their intervals out.

Extraction and equality of answers, custom reward functions, pass@1 and pass@k by level.
May import `model` and the rooms below it.
"""
