"""Signal processing on tensors and arrays: no files, no settings, no networks."""
