"""Experiments: their folders, repetitions and summaries."""
