"""Manifests from corpora: headers, splits and reports."""
