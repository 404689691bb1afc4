"""Estimates of the clean clip: those of each epoch, and those made of them at the stop."""
