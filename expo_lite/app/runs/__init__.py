"""The Runs tab: run folders in; curves, scores and samples out."""
