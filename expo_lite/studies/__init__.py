"""Adapters in; measurements out: one question before and after, scores by level, properties, methods side by side.

May import `runs` and the rooms below it.
"""
