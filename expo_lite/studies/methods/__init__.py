"""Comparing methods: trainings in processes of their own, and one report over all of them."""
