"""An FTX order book whose every update is verified by its checksum, against the sandbox. No key, no network."""

from finx_sync.venues.ftx import FtxOrderBook, FtxStream

stream = FtxStream(environment="sandbox")
lines: list[str] = []


@stream.on_orderbook("BTC-PERP")
def show(book: FtxOrderBook) -> None:
    """Runs on the dispatch thread after each change, with the whole book."""
    if len(lines) < 5:
        (bid, bid_size), (ask, ask_size) = book.bids[0], book.asks[0]
        lines.append(f"{bid_size:>8.4f} @ {bid:.1f} | {ask:.1f} @ {ask_size:<8.4f} checksum {book.checksum}")
        print(lines[-1])


stream.subscribe_orderbook("BTC-PERP")
with stream:
    stream.wait_for(lambda book: len(lines) == 5, timeout=20)
