"""Kraken's public market data for `finx_sync`: tickers, trades, and order books with verified checksums."""
