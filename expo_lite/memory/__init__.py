"""A model's shape, settings and a budget in; what fits, how long it takes, and sizes that keep to the budget out.

Predicts peak memory and run time before anything is loaded, and keeps a run within its budget.
May import `config` and `core`.
"""
