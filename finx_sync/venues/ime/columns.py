"""IME's contracts as a table: one row for each message, with its sections side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from finx_sync.venues.base.columns import Columns, Row, TableFormat, as_json, columns_of
from finx_sync.venues.ime.messages import Aggregate, AllowedRange, ContractInfo, ImeContract, Limit

__all__ = ["formats"]

ENVELOPE: Final = ("channel", "contractName", "ContractId", "timestamp")
RANKS: Final = (1, 2, 3)
SECTIONS: Final[dict[str, type[msgspec.Struct]]] = {
    "aggregate": Aggregate,
    "allowed": AllowedRange,
    "info": ContractInfo,
}


def formats() -> list[TableFormat]:
    """Return the only table. Placeholders for missing data become null; `data` has the original sections and values."""
    columns: Columns = dict.fromkeys(ENVELOPE, "text")
    for rank in RANKS:
        columns |= {f"{name}_{rank}": kind for name, kind in columns_of(Limit).items()}
    for section in SECTIONS.values():
        columns |= columns_of(section)
    return [TableFormat(ImeContract, "ime_contract", {**columns, "data": "json"}, _rows)]


def _rows(message: ImeContract) -> Iterable[Row]:
    row = {name: message.get(name) for name in ENVELOPE}
    for rank, limit in zip(RANKS, message.limits, strict=True):
        row |= {f"{name}_{rank}": value for name, value in _wire(limit).items()}
    for attribute in SECTIONS:
        row |= _wire(getattr(message, attribute))
    return ({**row, "data": as_json(message.data)},)


def _wire(section: msgspec.Struct) -> Row:
    """Convert a section to a dictionary with the names used on the wire."""
    return {one.encode_name: getattr(section, one.name) for one in msgspec.structs.fields(section)}
