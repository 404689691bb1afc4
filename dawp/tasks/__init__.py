"""The tasks. Each module of this package except ``base`` defines and registers one task."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
