"""The shared vocabulary: records that flow, errors that a user can fix, progress, tables, texts, colours, boxes.

Imports nothing else of the package.
"""
