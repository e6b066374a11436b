"""An FTX account: every change of its orders and every fill, each exactly once.

In the sandbox, a robot trades on every account. For another server, use
``FtxStream(key, secret, url="wss://host/ws/")``.
"""

from finx_sync.venues.ftx import FtxFill, FtxOrder, FtxStream

stream = FtxStream("sandbox-key", "sandbox-secret", environment="sandbox")


@stream.on_order
def ordered(order: FtxOrder) -> None:
    """Print a change of an order. A closed order was filled or cancelled; its filled size shows which."""
    end = "" if order.status != "closed" else ": filled" if order.is_filled else ": cancelled"
    print(f"order  {order.side:4} {order.size} {order.market} at {order.price} {order.status}{end}")


@stream.on_fill
def filled(fill: FtxFill) -> None:
    """Print a fill, which comes right after the change of its order."""
    print(f"filled {fill.side:4} {fill.size} {fill.market} at {fill.price}, fee {fill.fee:.2f} {fill.fee_currency}")


stream.subscribe_orders()
stream.subscribe_fills()
with stream:
    stream.wait_for(lambda message: isinstance(message, FtxFill), timeout=30)
