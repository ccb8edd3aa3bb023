"""
A plugin for mypy that checks the class arguments of the library's models: ``class Order(LockedModel, colection="orders")``
is an error with it. Without it, mypy does not check the class arguments of pydantic models.

Enable it with ``plugins = ["gcp_oncetask.mypy"]`` in mypy's configuration. Needs mypy; nothing else of the library imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mypy.errorcodes import ARG_TYPE, CALL_ARG
from mypy.nodes import ARG_NAMED, ARG_NAMED_OPT, Decorator, Expression, FuncDef, StrExpr, TypeInfo
from mypy.plugin import ClassDefContext, Plugin
from mypy.types import CallableType, LiteralType, Type, flatten_nested_unions, get_proper_type

from gcp_oncetask.checks import words

_OURS: Final = ("gcp_oncetask.entities.models.LockedModel", "gcp_oncetask.tasks.data.TaskData")
_CONFIGURATION: Final = "pydantic.config.ConfigDict"


class OncetaskPlugin(Plugin):
    """
    Checks the class arguments of ``LockedModel`` and ``TaskData``: their names, and the values of those that take one of a
    few words.
    """

    def get_customize_class_mro_hook(self, fullname: str) -> Callable[[ClassDefContext], None] | None:
        # mypy uses the first plugin that answers. Answer for the library's models only, so that pydantic's plugin answers
        # for their bases.
        symbol = self.lookup_fully_qualified(fullname)
        info = symbol.node if symbol is not None else None
        ours = isinstance(info, TypeInfo) and any(info.has_base(name) for name in _OURS)
        return _check if ours else None


def plugin(_version: str) -> type[Plugin]:
    """
    Return the plugin's class; mypy calls this function.
    """
    return OncetaskPlugin


def _check(context: ClassDefContext) -> None:
    takes: dict[str, Type | None] = {}
    for base in context.cls.info.mro[1:]:
        takes |= {name: kind for name, kind in _named(base).items() if name not in takes}
    configuration = context.api.lookup_fully_qualified_or_none(_CONFIGURATION)
    node = configuration.node if configuration is not None else None
    known = node.typeddict_type if isinstance(node, TypeInfo) else None
    settings = set(known.items) if known is not None else set()
    for name, given in context.cls.keywords.items():
        if name in takes:
            sentence = _wrong_word(name, given, takes[name])
            if sentence is not None:
                context.api.fail(sentence, context.cls, code=ARG_TYPE)
        elif name not in settings and name != "metaclass":
            sentence = words.unknown(f"The class {context.cls.name}", [name], takes, settings)
            context.api.fail(sentence, context.cls, code=CALL_ARG)


def _named(base: TypeInfo) -> dict[str, Type | None]:
    """
    Return the keyword arguments of the base's own ``__init_subclass__``, with their types.
    """
    symbol = base.names.get("__init_subclass__")
    node = symbol.node if symbol is not None else None
    function = node.func if isinstance(node, Decorator) else node
    if not isinstance(function, FuncDef):
        return {}
    # For a function from mypy's cache, the names and kinds of arguments are known, but not the arguments themselves.
    types = function.type.arg_types if isinstance(function.type, CallableType) else [None] * len(function.arg_names)
    return {
        name: type_
        for name, kind, type_ in zip(function.arg_names, function.arg_kinds, types, strict=True)
        if name is not None and kind in (ARG_NAMED, ARG_NAMED_OPT)
    }


def _wrong_word(name: str, given: Expression, kind: Type | None) -> str | None:
    items = [get_proper_type(item) for item in flatten_nested_unions([kind])] if kind is not None else []
    literals = [item.value for item in items if isinstance(item, LiteralType)]
    allowed = [word for word in literals if isinstance(word, str)]
    return words.wrong(name, given.value, allowed) if allowed and isinstance(given, StrExpr) else None
