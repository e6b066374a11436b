"""The key of an account, where a function of the user's returns it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from finx_sync.config import Account
from finx_sync.errors import ConnectError, FinxSyncError

__all__ = ["current_key"]


def current_key(account: Account, nudge: threading.Event, is_stopping: Callable[[], bool], timeout: float) -> Any:
    """The key; a function that returns it is user code: it runs on its own thread, and cannot hold up a stop.

    Args:
        account: whose.
        nudge: ends the wait; a stop sets it too.
        is_stopping: whether one has.
        timeout: seconds for the function.

    Raises:
        ConnectError: the function returned no key in time, or raised.
        FinxSyncError: what the function itself raised of our own.
    """
    if not callable(account.key):
        return account.current_key()
    answer: list[Any] = []

    def ask() -> None:
        try:
            answer.append(account.current_key())
        except BaseException as error:  # noqa: BLE001  # it is handed on below
            answer.append(error)
        nudge.set()

    nudge.clear()
    threading.Thread(target=ask, name="finx-sync key", daemon=True).start()
    if not is_stopping():  # a stop from here on sets the nudge
        nudge.wait(timeout)
    if not answer:
        raise ConnectError(f"the api_key function returned no key within {timeout:g} s")
    if isinstance(answer[0], FinxSyncError):
        raise answer[0]
    if isinstance(answer[0], BaseException):
        raise ConnectError(f"the api_key function raised {type(answer[0]).__name__}") from answer[0]
    return answer[0]
