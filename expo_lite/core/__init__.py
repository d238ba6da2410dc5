"""The shared vocabulary: records that flow, errors that a user can fix, progress reports.

Imports nothing else of the package.
"""
