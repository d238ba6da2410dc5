"""What is typed in; an exit status out: a thin file a command, and the same from Python.

Parses, calls one function of a room below, prints. May import every room.
"""
