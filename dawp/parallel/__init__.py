"""Jobs in several processes, here or on a cluster."""
