"""What the process writes on standard error: plain lines, without anything that a request brought.

The message of an exception that nobody foresaw may repeat what it stumbled over, a prompt or a key. So of those, the
type and the place are written and the message is not.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from lepton_ai.version import __version__

_LOG = logging.getLogger("lepton_ai.serve")
_ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class LineFormatter(logging.Formatter):
    """One line for a message; below it, of an exception, where it arose."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, in which nothing can begin another."""
        return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in super().formatMessage(record))

    def formatException(self, info: _ExceptionInfo) -> str:
        """Where it arose, without its message."""
        return describe(info[1]) if info[1] is not None else ""


def describe(error: BaseException) -> str:
    """The type of an exception and where it arose, without its message and those of its causes."""
    place = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)))
    return f"{place}{type(error).__module__}.{type(error).__qualname__} (Lepton {__version__}; message withheld)"


def log_config() -> dict[str, Any]:
    """For ``logging.config.dictConfig``: all loggers through one handler, warnings and worse, of Lepton's also news."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": LineFormatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {"lepton_ai": {"level": "INFO"}, "uvicorn.access": {"level": "CRITICAL"}},
    }


def on_loop_error(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """For ``loop.set_exception_handler``: what would be written otherwise shows the exception, and the task with it."""
    error = context.get("exception")
    _LOG.error("event loop: %s", context.get("message", ""), exc_info=error)
