"""What corrupts clean clips: noise, rooms and gaps."""
