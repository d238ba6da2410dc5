"""Command-line arguments in; an exit status out. One file per command, and the same from Python.

May import every room.
"""
