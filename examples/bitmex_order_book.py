"""A BitMEX order book, kept up to date and sorted. It uses the sandbox, without a key or a network."""

from finx_sync.venues.bitmex import BitmexStream, TableItem

stream = BitmexStream("XBTUSD", environment="sandbox", channels=["orderBookL2"])
lines: list[str] = []


@stream.on_table("orderBookL2", "XBTUSD")
def show(row: TableItem) -> None:
    """Print the best prices. Called on the dispatch thread for each changed level, after the book was updated."""
    if row.action == "partial" or len(lines) == 5:
        return
    book = stream.storage.order_book("XBTUSD")
    bid, ask = book.bids[0], book.asks[0]
    sizes = f"({len(book.bids)} and {len(book.asks)} levels)"
    lines.append(f"{bid.size:>7} @ {bid.price:.1f} | {ask.price:.1f} @ {ask.size:<7} {sizes}")
    print(lines[-1])


with stream:
    stream.wait_for(lambda row: len(lines) == 5, timeout=20)
