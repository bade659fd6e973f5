"""Metrics as pure functions, with confidence intervals, tables and plots."""
