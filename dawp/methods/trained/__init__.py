"""Networks trained on recordings, from packages that contain their weights."""
