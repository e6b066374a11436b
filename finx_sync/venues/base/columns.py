"""Messages as table rows, for conversions: the tables and their columns. Pure."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from finx_sync.messages import InternalText, Message

__all__ = ["ColumnType", "Columns", "Row", "TableFormat", "as_json", "columns_of", "of_message", "snake_case"]

ColumnType = Literal["float", "int", "bool", "text", "time", "json"]
"""What a column holds: "time" is microseconds since the UNIX epoch, UTC; "json" is any other value as JSON text."""
Columns = dict[str, ColumnType]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class TableFormat:
    """How one kind of message becomes rows of a table.

    Attributes:
        topic: the topic of the handlers that get these messages: a message type, or the name of an event.
        name: the name of the table.
        columns: the columns' types, in order, without `received_at`, which is the first column of every table.
        rows: returns the rows of one message. A value that is missing from a row, or None, becomes null.
    """

    topic: Any
    name: str
    columns: Columns
    rows: Callable[[Any], Iterable[Row]]


def of_message(kind: type[Message], columns: Columns | None = None) -> TableFormat:
    """A table with one row for each message, whose columns have the names used on the wire."""
    known = columns_of(kind) if columns is None else columns
    nested = {name for name, type_ in known.items() if type_ == "json"}

    def rows(message: Message) -> Iterable[Row]:
        row = message.to_dict()
        for name in nested & row.keys():
            row[name] = as_json(row[name])
        return (row,)

    return TableFormat(kind, snake_case(kind.__name__), known, rows)


def as_json(value: Any) -> str | None:
    """Encode a value as JSON text; None stays None."""
    return None if value is None else msgspec.json.encode(value, enc_hook=str).decode()


def snake_case(name: str) -> str:
    """Convert a class name: `ContractTick` becomes contract_tick."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def columns_of(kind: type[msgspec.Struct]) -> Columns:
    """The columns for a type's fields: numbers, strings and booleans as they are, nested values as JSON."""
    fields = {one.name: one for one in msgspec.structs.fields(kind)}
    names = kind._attributes if issubclass(kind, Message) else {one.encode_name: one.name for one in fields.values()}
    return {name: _type_of(fields[attribute].type) for name, attribute in names.items()}


def _type_of(annotation: Any) -> ColumnType:
    """The type of a column that can hold every value the annotation allows."""
    origin = typing.get_origin(annotation)
    if annotation is InternalText:
        return "text"
    if origin is typing.Annotated:
        return _type_of(typing.get_args(annotation)[0])
    if origin is Literal:
        return "text"
    if origin in (typing.Union, types.UnionType):
        found = {_type_of(one) for one in typing.get_args(annotation) if not _says_nothing(one)}
        return found.pop() if len(found) == 1 else "json"
    plain: dict[Any, ColumnType] = {float: "float", int: "int", bool: "bool", str: "text"}
    return plain.get(annotation, "json")


def _says_nothing(annotation: Any) -> bool:
    """Whether the annotation stands for no value: None, or the enum for an empty string."""
    return annotation is type(None) or getattr(annotation, "__name__", "") == "_Empty"
