"""Form parameters made from the dataclasses that define the engine's commands.

Default, help, unit, range and choices stand in ``cryolearn/engine/*/config.py`` only; the form's parameter of the field
``cutoff_angst`` is called ``cutoffAngst``.
"""

import typing
from typing import List

import pyworkflow.protocol.params as params
from pyworkflow.utils import getListFromRangeString

from ..common.choices import choice_index, choices_of
from ..engine.config import default_of, fields_of, help_of

_KINDS = {bool: params.BooleanParam, int: params.IntParam, float: params.FloatParam,
          typing.List[int]: params.NumericRangeParam, typing.List[float]: params.NumericListParam}


def paramName(field):
    """Name of the form parameter of a configuration field: snake_case to camelCase."""
    first, *rest = field.split('_')
    return first + ''.join(word.capitalize() for word in rest)


def addConfigParam(form, configClass, field, **overrides):
    """Add the parameter of one field to a form, a section's group or a line; ``overrides`` go to ``addParam``."""
    meta = fields_of(configClass)[field].metadata
    kind = _typeOf(configClass, field)
    default = default_of(configClass, field)
    label = meta['label'] or field.replace('_', ' ').capitalize()
    options = dict(label='%s (%s)' % (label, meta['unit']) if meta['unit'] else label, help=help_of(configClass, field), default=default)
    if meta['expert']:
        options['expertLevel'] = params.LEVEL_ADVANCED
    paramClass = _KINDS.get(kind, params.StringParam)
    if meta['choices']:
        paramClass = params.EnumParam
        options.update(choices=list(meta['choices']), default=choice_index(configClass, field, default), display=params.EnumParam.DISPLAY_COMBO)
    elif kind in (int, float):
        options['validators'] = _validators(meta)
    elif isinstance(default, list):
        options['default'] = ' '.join(str(value) for value in default)
    options.update(overrides)
    form.addParam(paramName(field), paramClass, **options)


def isChoice(configClass, field, *names):
    """Condition of a form: the choice ``field`` is one of these names."""
    positions = ', '.join('%d' % choice_index(configClass, field, name) for name in names)
    return '%s %s' % (paramName(field), '== %s' % positions if len(names) == 1 else 'in (%s)' % positions)


def isNotChoice(configClass, field, name):
    """Condition of a form: the choice ``field`` is another one than this."""
    return '%s != %d' % (paramName(field), choice_index(configClass, field, name))


def configValue(protocol, configClass, field):
    """Value of one field as the user set it, in the type that the configuration has."""
    kind = _typeOf(configClass, field)
    value = getattr(protocol, paramName(field)).get()
    if fields_of(configClass)[field].metadata['choices']:
        return choices_of(configClass, field)[value]
    if kind == typing.List[int]:
        return wholeNumbers(value)
    if kind == typing.List[float]:
        return [float(item) for item in (value or '').replace(',', ' ').split()]
    return default_of(configClass, field) if value is None else kind(value)


def wholeNumbers(text):
    """'7-9 12' as [7, 8, 9, 12]: sorted, each once; an empty text is an empty list."""
    words = (text or '').replace(',', ' ').split()
    return sorted(set(getListFromRangeString(' '.join(words)))) if words else []


def rangeText(numbers):
    """[7, 8, 9, 12] as '7-9 12': what :func:`wholeNumbers` reads."""
    runs: List[List[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ' '.join('%d' % first if first == last else '%d %d' % (first, last) if last == first + 1 else '%d-%d' % (first, last)
                    for first, last in runs)


def _typeOf(configClass, field):
    return typing.get_type_hints(configClass)[field]


class _Within(params.Validator):
    """Range check of a number that says the allowed range; an emptied field is an error too. Scipion names the field."""

    def __init__(self, low, high):
        self._low = low if low is not None else float('-inf')
        self._high = high if high is not None else float('inf')
        wanted = ('between %s and %s' % (_plain(low), _plain(high)) if low is not None and high is not None
                  else 'at least %s' % _plain(low) if low is not None else 'at most %s' % _plain(high))
        self.error = 'must be %s.' % wanted

    def __call__(self, value):
        return [] if value is not None and self._low <= value <= self._high else [self.error]


def _plain(number):
    return '{:,}'.format(int(number)) if number == int(number) else '%g' % number


def _validators(meta):
    return [] if meta['low'] is None and meta['high'] is None else [_Within(meta['low'], meta['high'])]
