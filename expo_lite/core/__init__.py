"""The shared vocabulary: records that flow, errors that a user can fix, progress reports, tables.

Imports nothing else of the package.
"""
