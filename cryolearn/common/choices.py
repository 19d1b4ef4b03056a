"""Choices of a command's parameters by their names: forms store positions, which nobody has to know."""

from __future__ import annotations

import dataclasses
from typing import Any, Tuple, Type

__all__ = ["choice_index", "choices_of"]


def choices_of(config: Type[Any], field: str) -> Tuple[str, ...]:
    """Names that a field of a command's dataclass may take, in their order.

    Raises
    ------
    KeyError
        when there is no such field, or it is no choice.
    """
    found = {item.name: item.metadata.get("choices") for item in dataclasses.fields(config)}.get(field)
    if not found:
        raise KeyError("%s.%s is no choice" % (config.__name__, field))
    return tuple(found)


def choice_index(config: Type[Any], field: str, name: str) -> int:
    """Position of a choice, as Scipion's forms and runs store it.

    Raises
    ------
    KeyError
        when there is no such field or choice.
    """
    names = choices_of(config, field)
    if name not in names:
        raise KeyError("%s.%s cannot be '%s': it is one of %s" % (config.__name__, field, name, ", ".join(names)))
    return names.index(name)
