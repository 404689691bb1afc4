"""The registry of generators: the networks of the deep prior.

This module loads no network: the command line reads it for its help.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dawp.plugins import add_part, import_object
from dawp.settings import Settings

if TYPE_CHECKING:
    from dawp.methods.deep_prior.generators.generator import Generator


@dataclass(frozen=True)
class GeneratorKind:
    """A network.

    Attributes:
        name: as on the command line.
        about: one line for the help.
        network: class of the network, a subclass of ``generators.generator.Generator``; its only argument is an
            instance of ``settings``, or of ``GeneratorConfig`` if it has none. As ``"module:Class"`` it is imported
            when it is needed.
        settings: class of its settings, whose fields are flags; None for none. The numbers of a run depend on those of
            the chosen generator only.
        check: ``check(settings, sample_rate)`` raises BadInput if the settings cannot be used at the working sample
            rate, None for that of the recording, before a recording is read; None for no check. As
            ``"module:function"`` it is imported when it is needed.
    """

    name: str
    about: str
    network: str | type[Generator]
    settings: type[Settings] | None = None
    check: str | Callable[[Any, int | None], None] | None = None

    def check_settings(self, settings: Settings, sample_rate: int | None) -> None:
        """Check the settings of the generator.

        Raises:
            BadInput: they cannot be used.
        """
        if self.check is not None:
            import_object(self.check)(settings, sample_rate)

    def build(self, settings: Settings) -> Generator:
        """Return the network with random weights from torch's global random state."""
        generator: Generator = import_object(self.network)(settings)
        return generator


GENERATORS: dict[str, GeneratorKind] = {}
"""The registered generators, by name."""


def register(kind: GeneratorKind) -> None:
    """Add a generator to the registry, for the command line and fits.

    Raises:
        ValueError: there is a generator of that name.
    """
    add_part(GENERATORS, kind.name, kind, "generator")
