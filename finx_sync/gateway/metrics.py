"""What `/metrics` says, in Prometheus' text format. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final

from finx_sync.gateway.hub import Hub

__all__ = ["CONTENT_TYPE", "Refusals", "exposition"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Refusals:
    """Counts the connections that were refused, by reason."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, reason: str) -> None:
        """Count one."""
        self.counts[reason] += 1


def exposition(hub: Hub, refusals: Refusals, now: float) -> str:
    """The text.

    Args:
        hub: the hub.
        refusals: the connections that were refused.
        now: UNIX seconds.
    """
    state, clients = hub.state, hub.clients
    age = now - state.received_at if state.received_at else float("nan")
    lines: list[str] = []

    def metric(name: str, kind: str, text: str, *samples: tuple[str, float]) -> None:
        lines.append(f"# HELP finx_sync_gateway_{name} {text}")
        lines.append(f"# TYPE finx_sync_gateway_{name} {kind}")
        lines.extend(f"finx_sync_gateway_{name}{labels} {value:.17g}" for labels, value in samples)

    metric("feed_live", "gauge", "Whether the feed is live.", ("", float(state.is_live)))
    metric("messages_total", "counter", "Messages of the feed.", ("", state.messages))
    metric("gaps_total", "counter", "Gaps of the feed.", ("", state.gaps))
    metric("last_message_age_seconds", "gauge", "Age of the newest message.", ("", age))
    metric("clients", "gauge", "Clients that are connected.", ("", len(clients)))
    metric("slow_clients", "gauge", "Clients that read too slowly.", ("", sum(one.is_slow for one in clients)))
    metric("waiting_bytes", "gauge", "Bytes that wait for slow clients.", ("", sum(one.waiting for one in clients)))
    sent = hub.delivered + sum(one.sent for one in clients)
    metric("sent_total", "counter", "Messages sent to clients.", ("", sent))
    conflated = hub.conflated + sum(one.conflated for one in clients)
    metric("conflated_total", "counter", "Messages replaced by newer ones for slow clients.", ("", conflated))
    refused = [(f'{{reason="{reason}"}}', float(count)) for reason, count in sorted(refusals.counts.items())]
    metric("refused_total", "counter", "Connections that were refused.", *refused)
    return "\n".join(lines) + "\n"
