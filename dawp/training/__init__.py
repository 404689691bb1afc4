"""Training of networks on a folder of clean recordings: ``python -m dawp train KIND``."""
