"""Bounds of random rooms and positions, and their text format; without heavy imports."""

from __future__ import annotations

Metres = tuple[float, float, float]
SMALLEST_ROOM: Metres = (3.0, 3.0, 2.4)  # bounds of a random room
LARGEST_ROOM: Metres = (6.0, 5.0, 3.2)
FROM_WALLS, NEAREST, FARTHEST = (
    0.5,
    0.5,
    2.0,
)  # distances in metres of random positions from the walls and from each other


def metres(place: Metres) -> str:
    """Format a position or size like the value of its flag.

    Example:
        >>> metres((5.0, 4.0, 2.5))
        '5,4,2.5'
    """
    return ",".join(f"{length:.4g}" for length in place)
