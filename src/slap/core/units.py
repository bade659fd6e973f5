"""Units in signatures."""

Seconds = float
