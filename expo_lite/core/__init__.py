"""What every room speaks in: errors that a user can mend, the records that flow, and how far a piece of work is.

In comes nothing, out go plain classes. Imports nothing of the package.
"""
