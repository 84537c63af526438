"""A live view in the terminal, with all other output above it.

Processes inherit standard output and error when they start; joblib's processes also outlive a sweep. So they
inherit a file that lasts as long as this process.
"""

import functools
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import IO, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

OUTPUT_AND_ERROR = (1, 2)


def can_draw() -> bool:
    """Whether standard output is a terminal that can be redrawn."""
    try:
        drawn_in = os.isatty(sys.stdout.fileno())
    except (AttributeError, OSError, ValueError):  # closed, or in memory
        return False
    return drawn_in and not Console().is_dumb_terminal


@functools.cache
def written() -> IO[bytes]:
    """The file that replaces the terminal. Writers share its position; reading does not move it."""
    return tempfile.TemporaryFile(buffering=0)


class Screen:
    """A context that draws a view in the terminal, with other output above it.

    `console` writes above the view.
    """

    def __init__(self, view: Callable[[], RenderableType]) -> None:
        terminal = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)
        self.console = Console(file=terminal, highlight=False)
        self._live = Live(
            console=self.console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,  # of other processes too
            redirect_stderr=False,
        )
        self._view, self._shown = view, 0
        self._alone = threading.RLock()  # another thread may be drawing
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        self._flush()
        self._shown = os.fstat(written().fileno()).st_size
        for descriptor in filter(os.isatty, OUTPUT_AND_ERROR):
            self._undo.callback(os.dup2, os.dup(descriptor), descriptor)
            os.dup2(written().fileno(), descriptor)
        self._undo.callback(self._flush)
        self._undo.callback(self._live.stop)
        self._live.start()
        self.console.show_cursor(True)  # or it would stay hidden if this process is killed
        self.refresh()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._alone:
            self._undo.close()
            self._show_written(whole_lines=False)

    def refresh(self) -> None:
        """Print new output, and redraw the view at the terminal's current width."""
        with self._alone:
            self._show_written()
            size = os.get_terminal_size(self.console.file.fileno())
            self.console.size = (size.columns or 80, size.lines or 25)  # unknown in some terminals
            self._live.update(self._view(), refresh=True)

    def _show_written(self, whole_lines: bool = True) -> None:
        text = os.pread(written().fileno(), os.fstat(written().fileno()).st_size - self._shown, self._shown)
        text = text[: text.rfind(b"\n") + 1] if whole_lines else text
        self._shown += len(text)
        for line in text.decode(errors="replace").splitlines():
            self.console.print(Text.from_ansi(line.rpartition("\r")[2]), soft_wrap=True)

    def _flush(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
