"""
The stored form of payloads. A payload is stored only if it is equal when it is loaded again.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from gcp_oncetask.checks.round_trip import Loss, loss, unreadable, unwritable
from gcp_oncetask.errors import UsageError

M = TypeVar("M", bound=BaseModel)

_UTF8: Final = "utf8"


def stored_form(data: BaseModel, home: type[BaseModel] | None, own: frozenset[str], *, plain: bool) -> dict[str, Any]:
    """
    Return *data* as JSON data, by alias, in a form that is loaded as an equal object.

    Args:
        data: The payload.
        home: The class that declares the kind; None: the class of *data*.
        own: Private attributes that need not be loaded.
        plain: Whether its class is plain and declares the kind.

    Raises:
        UsageError: There is no such form; the message names the field.
    """
    if plain:
        stored = _stored_if_equal(data)
        if stored is not None:
            return stored
    found: Loss | None = None
    # Computed fields are stored, unless the model refuses them when it is loaded; Json fields are read from text.
    for round_trip in (False, True):
        found = _loss(data, home, own, round_trip=round_trip)
        if found is None:
            # The data is dumped again, because validators of the user may have changed the first dump.
            return _dumped(data, round_trip=round_trip)
    raise UsageError(f"{type(data).__name__}: {found}")


def _stored_if_equal(data: BaseModel) -> dict[str, Any] | None:
    """
    Return the stored form on a short way that serves most payloads; None if the long way is needed.
    """
    try:
        stored = _dumped(data, round_trip=False)
        return stored if load(type(data), stored).__dict__ == data.__dict__ else None
    except Exception:  # noqa: BLE001 - the long way finds the reason
        return None


def load(model: type[M], payload: dict[str, Any]) -> M:
    """
    Return the model stored as *payload*.

    Raises:
        ValidationError: The payload does not fit.
    """
    config = model.model_config
    if config.get("ser_json_bytes", _UTF8) == config.get("val_json_bytes", _UTF8) != _UTF8:
        return model.model_validate_json(json.dumps(payload))
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        # Strict types accept times and tuples from JSON, but not from Python's texts and lists.
        strict = _load_json(model, payload)
        if isinstance(strict, ValidationError):
            raise (strict if strict.error_count() < error.error_count() else error) from None
        if strict is None:
            raise
        return strict


def _load_json(model: type[M], payload: dict[str, Any]) -> M | ValidationError | None:
    try:
        return model.model_validate_json(json.dumps(payload))
    except ValidationError as error:
        return error
    except (TypeError, ValueError):
        # Data that others have stored need not be JSON data.
        return None


def _dumped(data: BaseModel, *, round_trip: bool) -> dict[str, Any]:
    return data.model_dump(mode="json", by_alias=True, round_trip=round_trip, warnings=False)


def _loss(data: BaseModel, home: type[BaseModel] | None, own: frozenset[str], *, round_trip: bool) -> Loss | None:
    model = type(data)
    try:
        stored = _dumped(data, round_trip=round_trip)
    except Exception as error:  # noqa: BLE001 - serializers are user code
        return unwritable(data, error) or unreadable(error)
    try:
        found = loss(data, load(model, stored), own=own)
    except Exception as error:  # noqa: BLE001 - validators are user code, too
        return unreadable(error)
    if found is not None or home is None or home is model or _origin(model) is home:
        return found
    return _loss_at_home(data, home, round_trip=round_trip)


def _origin(model: type[BaseModel]) -> Any:
    return model.__pydantic_generic_metadata__["origin"]


def _loss_at_home(data: BaseModel, home: type[BaseModel], *, round_trip: bool) -> Loss | None:
    """
    Return the field that is lost because the class of *data* has no kind of its own, so that it is loaded as *home*;
    None if none is lost.
    """
    stored, model = _dumped(data, round_trip=round_trip), type(data)
    hint = f'Declare it with a kind of its own: class {model.__name__}({home.__name__}, kind="...").'
    try:
        loaded = _dumped(load(home, _dumped(data, round_trip=round_trip)), round_trip=round_trip)
    except Exception as error:  # noqa: BLE001 - validators are user code
        found = unreadable(error)
        return Loss(found.at, f"it is loaded as {home.__name__}, the class of its kind, and {found.why}", hint)
    lost = [name for name, value in stored.items() if name not in loaded or loaded[name] != value]
    return Loss(lost[0], f"it is loaded as {home.__name__}, the class of its kind", hint) if lost else None
