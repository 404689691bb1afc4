"""The deep prior: an untrained network fitted to one corrupted clip."""
