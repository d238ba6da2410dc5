"""The embedded world: arithmetic problems, a tokenizer and a small base that ship in the package."""
