"""The shared vocabulary: records that flow, errors that a user can fix, progress reports, tables, answers in boxes.

Imports nothing else of the package.
"""
