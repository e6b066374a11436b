"""Messages as rows of tables, for conversions: which tables there are, and their columns. Pure."""

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
"""What a column holds: "time" is microseconds since the UNIX epoch, UTC, "json" a text of whatever else there is."""
Columns = dict[str, ColumnType]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class TableFormat:
    """How one kind of message becomes rows of a table.

    Attributes:
        topic: what a handler is registered for that gets these messages: a type, or the name of an event.
        name: of the table.
        columns: their types, in order; `received_at`, which every table begins with, is not among them.
        rows: the rows of one message. What a row lacks, or what is None, is null.
    """

    topic: Any
    name: str
    columns: Columns
    rows: Callable[[Any], Iterable[Row]]


def of_message(kind: type[Message], columns: Columns | None = None) -> TableFormat:
    """A table with a row for each message, and the wire's own names."""
    known = columns_of(kind) if columns is None else columns
    nested = {name for name, type_ in known.items() if type_ == "json"}

    def rows(message: Message) -> Iterable[Row]:
        row = message.to_dict()
        for name in nested & row.keys():
            row[name] = as_json(row[name])
        return (row,)

    return TableFormat(kind, snake_case(kind.__name__), known, rows)


def as_json(value: Any) -> str | None:
    """A value as JSON text; None for None."""
    return None if value is None else msgspec.json.encode(value, enc_hook=str).decode()


def snake_case(name: str) -> str:
    """`ContractTick` is contract_tick."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def columns_of(kind: type[msgspec.Struct]) -> Columns:
    """The columns of a type's fields: numbers, texts and truth values as such, anything deeper as JSON."""
    fields = {one.name: one for one in msgspec.structs.fields(kind)}
    names = kind._attributes if issubclass(kind, Message) else {one.encode_name: one.name for one in fields.values()}
    return {name: _type_of(fields[attribute].type) for name, attribute in names.items()}


def _type_of(annotation: Any) -> ColumnType:
    """The type of a column that holds what an annotation allows."""
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
    """None, and the enum that stands for an empty text."""
    return annotation is type(None) or getattr(annotation, "__name__", "") == "_Empty"
