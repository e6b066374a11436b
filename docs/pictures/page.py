"""Write pictures of the gateway's page: light and dark, phone, desk and wall.

python -m docs.pictures.page FOLDER
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.gateway.browser import browser
from tests.gateway.feed import FeedServer
from tests.gateway.market import Payloads

SIZES = {"phone": (390, 844, 2.0), "desk": (1440, 900, 1.0), "wall": (3840, 2160, 1.0)}


def main(folder: Path, wait: float, only: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    payloads = Payloads()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        browser(Path(profile)) as page,
        FeedServer(payloads.tags, payloads) as feed,
    ):
        page.size(1440, 900)
        page.open(feed.url)
        feed.flood(250)
        page.wait("document.querySelectorAll('#contracts tbody tr').length > 8")
        time.sleep(wait)
        at = time.time()
        feed.tell(
            gap={
                "start": at - 65.2,
                "end": at - 61,
                "names": ["BTC-PERPETUAL"],
                "reason": "connection lost",
                "missed": None,
            }
        )
        feed.tell(
            gap={
                "start": at - 9,
                "end": at - 4,
                "names": ["BTC-PERPETUAL", "ETH-PERPETUAL", "SOL-PERPETUAL", "BTC:USD"],
                "reason": "relay lost",
                "missed": 1284,
            }
        )
        feed.tell(
            gap={
                "start": at - 2.5,
                "end": at - 2,
                "names": ["BTC-26AUG22-20000-C"],
                "reason": "slow consumer",
                "missed": 1,
            }
        )
        for size, (width, height, scale) in SIZES.items():
            for theme in ("light", "dark"):
                name = f"page-{size}-{theme}"
                if only and not any(one in name for one in only):
                    continue
                page.size(width, height, dark=theme == "dark", scale=scale, is_phone=size == "phone")
                time.sleep(2.5)
                page.picture(folder / f"{name}.png")
                if size != "wall":
                    page.picture(folder / f"{name}-whole.png", whole=True)
        print(page.problems, page.heap())


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
