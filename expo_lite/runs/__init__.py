"""A configuration in; a run's folder out: records, checkpoints, adapter, plots, model card. It goes on after a stop.

Also what is made of a run: diagnosis and export. May import `training` and the rooms below it.
"""
