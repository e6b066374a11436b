"""What type checkers must understand; never run. A line that they must refuse ends with its marker, "wrong"."""

from __future__ import annotations

from collections.abc import Iterable

from typing_extensions import assert_type

from finx_sync import ContractTick, Drift, FinxSyncError, Gap, Lag, SpotTick, Stale, StateChange, StreamManager
from finx_sync.venues.bitmex.messages import TableItem
from finx_sync.venues.bitmex.stream import BitmexStream
from finx_sync.venues.ftx.handlers import FtxMessage
from finx_sync.venues.ftx.messages import FtxTicker
from finx_sync.venues.ftx.stream import FtxStream
from finx_sync.venues.ime.messages import ImeContract
from finx_sync.venues.ime.stream import ImeStream


def reading(finx: StreamManager, bitmex: BitmexStream, ftx: FtxStream, ime: ImeStream) -> None:
    assert_type(finx.latest("BTC:USDC"), ContractTick | SpotTick | None)
    assert_type(bitmex.latest("margin"), TableItem | None)
    assert_type(ftx.latest("BTC-PERP"), FtxMessage | None)
    assert_type(ime.latest("ContractA"), ImeContract | None)
    assert_type(finx.take(5), list[ContractTick | SpotTick])
    assert_type(bitmex.take(5), list[TableItem])
    assert_type(ime.take(5), list[ImeContract])
    assert_type(next(bitmex.ticks()), TableItem)
    assert_type(next(ftx.ticks()), FtxMessage)
    assert_type(ime.wait_for(lambda contract: contract.name == "ContractA"), ImeContract)
    assert_type(finx.wait_for(lambda tick: tick.name == "BTC:USDC"), ContractTick | SpotTick)
    for tick in finx:
        assert_type(tick, ContractTick | SpotTick)
    for contract in ime.ticks("ContractA"):
        assert_type(contract, ImeContract)
    with bitmex as entered:
        assert_type(entered, BitmexStream)
    print(finx.latest("BTC:USDC").price)  # wrong: there may be none, and it may be a contract
    finx.take("BTC:USDC")  # wrong: how many comes first
    ime.wait_for(lambda contract: contract.nonsense)  # wrong: no such attribute
    ime.ticks(timeout="5")  # wrong: a number
    StreamManager(ping_intervall=5)  # wrong: misspelt
    StreamManager(reconnect=5)  # wrong: a Backoff
    StreamManager(ping_interval="5")  # wrong: a number


def on_error(error: FinxSyncError) -> None: ...
def on_state(change: StateChange) -> None: ...
def on_gap(gap: Gap) -> None: ...
def on_stale(stale: Stale) -> None: ...
def on_drift(drift: Drift) -> None: ...
def on_lag(lag: Lag) -> None: ...
def on_text(text: str) -> None: ...
def on_contract(tick: ContractTick) -> None: ...
def on_row(item: TableItem) -> None: ...
def on_ticker(ticker: FtxTicker) -> None: ...
def on_ime(contract: ImeContract) -> None: ...


def handlers(finx: StreamManager, bitmex: BitmexStream, ftx: FtxStream, ime: ImeStream) -> None:
    finx.on_error(on_error)
    finx.on_message(on_text)
    finx.on_state(on_state)
    finx.on_gap(on_gap)
    finx.on_stale(on_stale)
    finx.on_drift(on_drift)
    finx.on_lag(on_lag)
    finx.on_contract(on_contract)
    finx.on_contract(on_contract, "BTC-PERPETUAL")
    finx.on_contract("BTC-PERPETUAL", "ETH-PERPETUAL")(on_contract)
    bitmex.on_table(on_row, "quote")
    ftx.on_ticker(on_ticker)
    ime.on_contract("ContractA")(on_ime)
    finx.on_error(print)
    finx.on_gap(lambda gap: print(gap.reason))
    finx.off(on_gap)

    @finx.on_contract
    def bare(tick: ContractTick) -> float | None:
        return tick.delta

    @finx.on_spot("BTC:USDC")
    def named(tick: SpotTick) -> float | None:
        return tick.price

    @finx.on_gap
    def gap_length(gap: Gap) -> float:
        return gap.duration

    message = finx.latest("BTC:USDC")
    if isinstance(message, SpotTick):
        assert_type(message.price, float | None)
        assert_type(named(message), float | None)
        bare(message)  # wrong: another type
    gap_length(message)  # wrong: another type
    finx.on_error(on_state)  # wrong: another type
    finx.on_state(on_error)  # wrong: another type
    finx.on_gap(on_lag)  # wrong: another type
    finx.on_stale(on_gap)  # wrong: another type
    finx.on_drift(on_lag)  # wrong: another type
    finx.on_lag(on_drift)  # wrong: another type
    finx.on_message(on_gap)  # wrong: another type
    finx.on_contract(on_row)  # wrong: another venue's
    finx.on_spot(on_contract)  # wrong: another type
    finx.on_contract("BTC-PERPETUAL", on_contract)  # wrong: swapped
    bitmex.on_table(on_contract)  # wrong: another venue's
    ftx.on_ticker(on_ime)  # wrong: another venue's
    ftx.on_trade(on_ticker)  # wrong: another type
    ime.on_contract(on_contract)  # wrong: another venue's


def subscriptions(finx: StreamManager, names: Iterable[str]) -> None:
    finx.subscribe_contract(*names, stale_after=5)
    finx.subscribe_contract(names)  # wrong: one by one
    finx.subscribe_spot("BTC:USDC", stale_after="5")  # wrong: a number
