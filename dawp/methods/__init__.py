"""What turns a problem into an estimate."""
