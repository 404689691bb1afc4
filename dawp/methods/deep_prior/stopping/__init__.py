"""Stopping rules, and the oracle that selects the best epoch with the clean clip."""
