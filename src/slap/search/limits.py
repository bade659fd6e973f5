"""Limits of searches, apart from what needs LanceDB or torch."""

ALIKE = 0.99
"""Cosine of two windows from which on their files are duplicates (our choice), see docs/tutorials/search.md."""

MOST = 1000
"""Files that may be asked for at once, those that are skipped included."""
