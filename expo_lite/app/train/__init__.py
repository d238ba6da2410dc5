"""The Train tab: starts a training in a subprocess, and follows it."""
