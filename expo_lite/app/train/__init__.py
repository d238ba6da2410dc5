"""The Train tab: a choice in; a training in a process of its own, watched, out."""
