"""Parallel execution of jobs: in this process, in several local processes, or on a Ray cluster."""
