"""Classical methods, from well-kept libraries where there are any."""
