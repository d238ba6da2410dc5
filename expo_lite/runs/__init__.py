"""A configuration in; a run's folder out: records, checkpoints, adapter, plots, model card.

A run can be stopped and resumed. Also what is made of one: diagnosis and export.
May import `training` and the rooms below it.
"""
