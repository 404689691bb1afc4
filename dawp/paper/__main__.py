"""``python -m dawp.paper WHAT``: reproduce a table or figure of the paper."""

from __future__ import annotations

from collections.abc import Sequence

from dawp.openmp import limit_spinning


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; arguments and exit codes are those of ``dawp.paper.command.main``."""
    limit_spinning()
    from dawp.paper import command

    return command.main(argv)


if __name__ == "__main__":
    raise SystemExit(main())
