"""The key of an account, where a function of the user's returns it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from finx_sync.config import Account
from finx_sync.errors import ConnectError, FinxSyncError
from finx_sync.transport.shared import SharedCalls

__all__ = ["current_key"]

_calls: Final[SharedCalls[Any]] = SharedCalls()


def current_key(account: Account, nudge: threading.Event, is_stopping: Callable[[], bool], timeout: float) -> Any:
    """The key; a function that returns it is user code: it runs on its own thread, and cannot hold up a stop.

    A function that hangs is not called again before it returns: the next attempt waits for the same call.

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
        return account.key
    nudge.clear()
    # By the function itself: another one, as after `rotate_key`, gives another key.
    call = _calls.join((id(account), id(account.key)), "finx-sync key", _keep(account))
    call.wake(nudge.set)
    try:
        if not is_stopping():  # a stop from here on sets the nudge
            nudge.wait(timeout)
        if not call.finished:
            raise ConnectError(
                f"the api_key function returned no key within {timeout:g} s; it is not called again before it returns"
            )
        return call.result()
    except FinxSyncError:
        raise
    except BaseException as error:
        raise ConnectError(f"the api_key function raised {type(error).__name__}") from error
    finally:
        call.leave(nudge.set)


def _keep(account: Account) -> Callable[[], Any]:
    """Asks for the key, and keeps the account and its function alive meanwhile, so that no other has their `id`."""
    function = account.key

    def ask() -> Any:
        key = account.current_key()
        assert function is not None
        return key

    return ask
