"""How much memory a run takes, said before anything is loaded, and kept to while it runs."""
