"""Manifests from corpora: headers, splits and reports."""

REPORT = "report.json"
"""Name of the report beside the manifests."""
