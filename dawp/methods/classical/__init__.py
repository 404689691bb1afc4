"""Classical methods, from maintained libraries where possible."""
