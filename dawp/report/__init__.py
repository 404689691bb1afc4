"""Reports: pictures of every repetition, and one HTML page of a run to look at and listen to."""
