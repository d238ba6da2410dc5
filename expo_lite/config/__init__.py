"""Every setting, once: preset, file and flags in; one validated, frozen `Config` out, or every error at once.

Also what is known by name without loading anything: presets, methods, the shipped model's files, the Hub's access.
May import `core`; no torch.
"""
