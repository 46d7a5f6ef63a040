"""What both command lines have in common: options that are given once, numbers in bounds, devices that exist."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperGroup
from typer.models import OptionInfo

from edge.records import DEVICE_PATTERN, DEVICES


class Commands(TyperGroup):
    """Commands whose options are given once, but for those that may be repeated.

    Of an option that is given twice the last value would win, and the first be forgotten without a word.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """As usual, after a look at the options.

        Raises:
            UsageError: one is given twice, or none of the command's.
        """
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not ctx.resilient_parsing:
            inner = command.context_class(command, info_name=name, parent=ctx)
            _, _, order = command.make_parser(inner).parse_args(args=list(rest))
            for option, times in Counter(order).items():
                if times > 1 and option.nargs == 1 and not (option.multiple or getattr(option, "is_flag", False)):
                    inner.fail(f"{option.opts[0]} is given {times} times, and takes one value.")
        return name, command, rest


def parse_rate(value: Any) -> float:
    """A share of good parts; people think of it in per cent.

    Raises:
        BadParameter: it is none between a millionth and a half.
    """
    try:
        rate = float(value)
    except ValueError:
        rate = float("nan")
    if 1e-6 <= rate <= 0.5:
        return rate
    raise typer.BadParameter(f"{value}: expected a share from 1e-6 to 0.5; 1 % is 0.01")


def parse_device(value: Any) -> str:
    """An OpenVINO device.

    Raises:
        BadParameter: it is none that precision and threads can be set for.
    """
    if re.fullmatch(DEVICE_PATTERN, str(value)) is None:
        raise typer.BadParameter(f"{value}: expected {DEVICES}")
    return str(value)


def options_of(record: type, options: Mapping[str, OptionInfo]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose first parameter, a mapping, is filled from options that are fields of `record`.

    Names, types and defaults are the record's; `options` says how they are called and explained, in this order, after
    the command's own.
    """
    hints = get_type_hints(record)
    defaults = {field.name: field.default for field in dataclasses.fields(record)}

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        added = [_parameter(name, hints[name], defaults[name], option) for name, option in options.items()]

        def command(**values: Any) -> None:
            function({name: values.pop(name) for name in options}, **values)

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        command.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
        return command

    return decorate


def _parameter(name: str, hint: Any, default: Any, option: OptionInfo) -> inspect.Parameter:
    given = inspect.Parameter.empty if default is dataclasses.MISSING else default
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=given, annotation=Annotated[hint, option])
