"""Methods, which compute an estimate from a problem."""
