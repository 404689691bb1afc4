"""Recordings of any length that have no clean version."""
