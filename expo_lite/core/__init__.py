"""The shared vocabulary: records that flow, errors that a user can fix, progress reports, tables, texts and colours.

Imports nothing else of the package.
"""
