"""An adapter and held-out problems in; answers, kept as they come, and scores of base and adapter out."""
