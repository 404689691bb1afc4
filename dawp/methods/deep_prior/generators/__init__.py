"""The networks. Each is a torch module with ``valid_length(T)`` and ``forward(z, T) -> [B, 1, T]``."""
