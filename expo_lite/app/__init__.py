"""The Gradio app: run folders and questions in, a web page out.

One package per tab; `worker` owns the model, `train` starts trainings as subprocesses. Most files are pure functions
that make HTML; gradio (the extra `app`) is imported by the page, the tabs and their events only.
May import `studies` and the rooms below it.
"""
