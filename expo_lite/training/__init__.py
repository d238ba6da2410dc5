"""Problems in, a better adapter out: the paper's step, from rollouts to the update, and the dry pass before the first.

May import `problems` and the rooms below it.
"""
