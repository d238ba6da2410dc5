"""How much memory a run takes, before it is loaded, and keeping to it; imports no torch."""
