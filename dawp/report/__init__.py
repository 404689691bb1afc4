"""Reports: pictures of each repetition, and an HTML page of a run with its sounds."""
