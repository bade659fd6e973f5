"""Limits of searches, apart from what needs LanceDB or torch."""

ALIKE = 0.99999
"""Cosine of two windows from which on their files are duplicates (our choice): copies in another lossless format have
it. A lower one is for each model to choose: by the demo's model, 90 % of the clips of the test split have another clip
at 0.99 or more, 17 % at 0.9995 or more."""

MOST = 1000
"""Files that may be asked for at once, those that are skipped included."""
