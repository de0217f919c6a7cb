"""Ctrl-C ends a command soon, with exit status 130 and without a traceback."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_STATUS = 130  # 128 + SIGINT, as shells have it
_GRACE = 1.5  # seconds for what must be undone, such as temporary files


class _Interrupted(SystemExit):
    """Ctrl-C. No SystemExit is caught on its way, neither by libraries nor by the command line."""


@contextmanager
def end_on_interrupt() -> Iterator[None]:
    """Within it Ctrl-C unwinds the main thread and ends the process. Where that thread does not
    come to Python code, because a framework compiles, the process ends after a moment.

    Python is not shut down: threads of frameworks that still compute would crash it.
    """
    in_main = threading.current_thread() is threading.main_thread()  # not in a test, or a server
    if not in_main or signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        yield
        return
    received, written = socket.socketpair()
    written.setblocking(False)
    signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, _stop)
    sys.unraisablehook = _show_unraisable
    threading.Thread(target=_watch, args=(received, written), daemon=True).start()
    try:
        yield
    except _Interrupted:
        _leave()


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Interrupted(_STATUS)


def _show_unraisable(found: Any) -> None:
    """Python prints what is raised in a callback of C code; `_watch` then ends the process."""
    if not isinstance(found.exc_value, _Interrupted):
        sys.__unraisablehook__(found)


def _watch(received: socket.socket, written: socket.socket) -> None:
    """Waits for the number that C code writes when a signal comes. `written` is kept open."""
    while received.recv(1) != bytes([signal.SIGINT]):
        pass
    time.sleep(_GRACE)
    _leave()


def _leave() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a closed pipe
            stream.flush()
    os._exit(_STATUS)
