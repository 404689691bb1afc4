"""Estimates of the clean clip: those of each epoch, and those computed from them at the stop."""
