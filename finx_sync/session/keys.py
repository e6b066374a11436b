"""Gets the key of an account, which may come from a user's function."""

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
    """Return the key. A function that returns it is user code: it runs on its own thread and cannot delay a stop.

    A function that hangs is not called again until it returns: the next attempt waits for the same call.

    Args:
        account: the account.
        nudge: ends the wait; a stop sets it too.
        is_stopping: returns whether the stream is being stopped.
        timeout: how long the function may take, seconds.

    Raises:
        ConnectError: the function returned no key in time, or raised.
        FinxSyncError: the function itself raised it.
    """
    if not callable(account.key):
        return account.key
    nudge.clear()
    # The function is part of the identity: after `rotate_key` another function returns another key.
    call = _calls.join((id(account), id(account.key)), "finx-sync key", _keep(account))
    call.wake(nudge.set)
    try:
        if not is_stopping():  # a stop that comes later sets the nudge
            nudge.wait(timeout)
        if not call.finished:
            raise ConnectError(
                f"the api_key function returned no key within {timeout:g} s; it is not called again until it returns"
            )
        return call.result()
    except FinxSyncError:
        raise
    except BaseException as error:
        raise ConnectError(f"the api_key function raised {type(error).__name__}") from error
    finally:
        call.leave(nudge.set)


def _keep(account: Account) -> Callable[[], Any]:
    """Return a function that gets the key.

    It keeps the account and its function alive meanwhile, so that no other object can have their `id`.
    """
    function = account.key

    def ask() -> Any:
        key = account.current_key()
        assert function is not None
        return key

    return ask
