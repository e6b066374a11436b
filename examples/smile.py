"""Plot BTC's volatility smile, and list the options whose quotes are furthest from their mark."""

import sys

from finx_sync import StreamManager
from finx_sync.analytics import plot_smile

stream = StreamManager(environment="sandbox")
chain = stream.option_chain("BTC")

expiries = chain.index.get_level_values("expiry").unique()
expiry = next(expiry for expiry in expiries if expiry > chain["timestamp"].max())
smile = chain.xs(("BTC", "BTC", expiry))  # underlying, price unit, expiry

path = sys.argv[1] if len(sys.argv) > 1 else "smile.png"
plot_smile(chain, expiry).figure.savefig(path, dpi=150)
print(f"the smile of {expiry:%d %b %Y} is in {path}")

smile = smile.assign(off=((smile["bid_iv"] + smile["ask_iv"]) / 2 - smile["mark_iv"]).abs())
for (strike, side), row in smile.nlargest(3, "off").iterrows():
    print(f"{strike:,.0f} {side}: mark {row['mark_iv']:.1f} %, quotes {row['bid_iv']:.1f} to {row['ask_iv']:.1f} %")
