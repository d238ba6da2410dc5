"""Base and adapter, sampler and policy at once: token ids in; completions, hidden states and log-probabilities out.

Also how weights are loaded and saved, and how several processes share the work. May import `memory` and the rooms
below it.
"""
