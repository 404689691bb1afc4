"""Simulate corruptions of clean clips: noise, rooms and gaps."""
