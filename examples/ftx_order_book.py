"""An FTX order book whose updates are verified by a checksum. It uses the sandbox, without a key or a network."""

from finx_sync.venues.ftx import FtxOrderBook, FtxStream

stream = FtxStream(environment="sandbox")
lines: list[str] = []


@stream.on_orderbook("BTC-PERP")
def show(book: FtxOrderBook) -> None:
    """Print the best prices. Called on the dispatch thread with the whole book, after each change."""
    if len(lines) < 5:
        (bid, bid_size), (ask, ask_size) = book.bids[0], book.asks[0]
        lines.append(f"{bid_size:>8.4f} @ {bid:.1f} | {ask:.1f} @ {ask_size:<8.4f} checksum {book.checksum}")
        print(lines[-1])


stream.subscribe_orderbook("BTC-PERP")
with stream:
    stream.wait_for(lambda book: len(lines) == 5, timeout=20)
