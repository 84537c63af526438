"""The terminal while something is drawn in it: who else writes there is shown line by line above.

Processes inherit standard output and error when they start and keep them; joblib's go on to the next sweep of
a command. So what they inherit is a pipe that lasts as long as this process.
"""

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

OUTPUT_AND_ERROR = (1, 2)

HANDED_ON_S = 1.0
"""Seconds to wait at the end for what was written last; a pipe that nobody fills is read at once."""


def can_draw() -> bool:
    """Whether standard output is a terminal in which what was drawn can be drawn anew."""
    try:
        drawn_in = os.isatty(sys.stdout.fileno())
    except (AttributeError, OSError, ValueError):  # closed, or in memory
        return False
    return drawn_in and not Console().is_dumb_terminal


class Pipe:
    """What is written into `write_end`, by whom ever, handed on line by line.

    Attributes:
        write_end: File descriptor.
        listener: Gets each line; None: they go where this process's errors went when the pipe was made.
    """

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        self._otherwise = os.dup(2)
        self._mark = 0
        self._reached = threading.Condition()
        self.listener: Callable[[str], None] | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def wait(self) -> None:
        """Wait until everything that was written so far is handed on."""
        with self._reached:
            mark = self._mark + 1
            os.write(self.write_end, b"\0\n")
            self._reached.wait_for(lambda: self._mark >= mark, timeout=HANDED_ON_S)

    def _read(self) -> None:
        rest = b""
        while chunk := os.read(self._read_end, 65536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                text, mark, _ = line.partition(b"\0")
                if text or not mark:
                    self._hand_on(text)
                if mark:
                    with self._reached:
                        self._mark += 1
                        self._reached.notify_all()

    def _hand_on(self, line: bytes) -> None:
        listener = self.listener
        if listener is None:
            os.write(self._otherwise, line + b"\n")
        else:
            listener(line.decode(errors="replace").rstrip("\r").rpartition("\r")[2])


@functools.cache
def pipe() -> Pipe:
    """The one of this process."""
    return Pipe()


class Drawing:
    """A context in which a terminal can be drawn in, whatever is written to it meanwhile.

    Attributes:
        console: Draws in the terminal.
        alone: Held by who draws or writes: rich's threads are not kept apart while a `Live` ends, and a line
            that comes then would stand in what is being erased.
    """

    def __init__(self) -> None:
        self._terminal = os.fdopen(
            os.dup(sys.stdout.fileno()), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors
        )
        self.console = Console(file=self._terminal, highlight=False)
        self.alone = threading.RLock()
        self._saved: dict[int, int] = {}

    def __enter__(self) -> Self:
        self.measure()
        sys.stdout.flush()
        sys.stderr.flush()
        pipe().listener = self._show
        for descriptor in filter(os.isatty, OUTPUT_AND_ERROR):
            self._saved[descriptor] = os.dup(descriptor)
            os.dup2(pipe().write_end, descriptor)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, terminal in self._saved.items():
            os.dup2(terminal, descriptor)
            os.close(terminal)
        pipe().wait()
        pipe().listener = None
        self._terminal.flush()

    def measure(self) -> None:
        """Take over the terminal's size, which its user may change."""
        size = os.get_terminal_size(self._terminal.fileno())
        self.console.size = (size.columns or 80, size.lines or 25)  # a terminal may not know

    @contextmanager
    def live(self, live: Live) -> Iterator[None]:
        """A context in which something is drawn anew and anew, and then taken away."""
        with self.alone:
            live.start()
        try:
            yield
        finally:
            with self.alone:
                live.stop()

    def _show(self, line: str) -> None:
        with self.alone:
            self.console.print(Text.from_ansi(line), soft_wrap=True)
