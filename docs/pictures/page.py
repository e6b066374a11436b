"""Write pictures of the gateway's page, with the sandbox's market: on a phone, a desk and a wall, light and dark.

::

    python -m docs.pictures.page FOLDER [phone|desk|wall|light|dark ...]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from finx_sync.gateway import Gateway
from finx_sync.sandbox import Sandbox
from tests.gateway.browser import Page, browser

SIZES = {"phone": (390, 844, 2.0), "desk": (1440, 900, 1.0), "wall": (3840, 2160, 1.0)}
"""Width and height in CSS pixels, and how many pixels each has."""
WARM_UP = 70.0
"""Seconds until the charts have something to show."""
SETTLE = 3.0


def draw(folder: Path, wanted: list[str]) -> None:
    """Write the pictures whose names have one of the words; all of them without words."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        Sandbox(contract_interval=1.0, spot_interval=0.25) as sandbox,
        Gateway("sandbox", url=sandbox.url, api_key="sandbox-key") as gateway,
        browser(Path(profile)) as page,
    ):
        page.size(1440, 900)
        page.open(gateway.url)
        page.wait("document.querySelectorAll('#contracts tbody tr').length > 8")
        time.sleep(WARM_UP / 2)
        sandbox.abort_all()  # so that there is a gap to be seen
        page.wait("document.querySelector('#gaps li') !== null")
        time.sleep(WARM_UP / 2)
        for size in SIZES:
            for theme in ("light", "dark"):
                if not wanted or {size, theme} & set(wanted):
                    _draw(page, folder, size, theme)


def _draw(page: Page, folder: Path, size: str, theme: str) -> None:
    width, height, scale = SIZES[size]
    page.size(width, height, dark=theme == "dark", scale=scale, is_phone=size == "phone")
    time.sleep(SETTLE)
    page.picture(folder / f"page-{size}-{theme}.png")


if __name__ == "__main__":
    draw(Path(sys.argv[1]), sys.argv[2:])
