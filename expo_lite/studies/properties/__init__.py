"""Texts of several kinds in (explanations, expert solutions, attempts); how likely they are to the model out."""
