"""Record the commands of the README in a terminal of 80 columns, as an animated SVG.

    python docs/recording.py        # writes docs/_static/recording.svg, in about three minutes

The commands run for real, in a temporary work tree of the last commit, so nothing is found there that was
trained before. Waiting is shortened. SVG, because its text stays sharp at every size and the file is small.
A reader who prefers no motion sees the last screen.
"""

import os
import pty
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pyte

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "_static" / "recording.svg"
COMMANDS = (
    "python run.py -m residual=true,false seed=0,1,2,3,4,5 recipe.epochs=2",
    "python -m ablations residual=true,false seed=0,1,2,3,4,5 recipe.epochs=2",
)
COLUMNS, ROWS = 80, 29
EVERY = 3.0  # seconds of real time between two screens that are kept
SHOWN = 0.35  # seconds for which one of them is shown
PAUSE = 2.5  # seconds for which a finished command is shown
LETTER, LINE, MARGIN = 8.43, 18, 14  # pixels; a letter is 0.602 of the font size of 14 wide
COLOURS = {"default": "#d8dee9", "green": "#8fbf7f", "cyan": "#7fc3d1", "red": "#e08080", "brown": "#e0c080"}


@dataclass(frozen=True)
class Frame:
    """A screen as SVG text, and the seconds for which it is shown."""

    text: str
    seconds: float


def draw(screen: pyte.Screen) -> str:
    """One <text> per stretch of one colour. textLength fits it to its columns in any font."""
    parts = []
    for row in range(ROWS):
        letters = [screen.buffer[row][column] for column in range(COLUMNS)]
        start = 0
        while start < COLUMNS:
            first, end = letters[start], start
            while end < COLUMNS and (letters[end].fg, letters[end].bold) == (first.fg, first.bold):
                end += 1
            text = "".join(letter.data for letter in letters[start:end])
            body = text.strip()
            if body:
                left = MARGIN + (start + len(text) - len(text.lstrip())) * LETTER
                colour = COLOURS.get(first.fg, f"#{first.fg}")
                weight = ' font-weight="bold"' if first.bold else ""
                parts.append(
                    f'<text x="{left:.1f}" y="{MARGIN + (row + 0.75) * LINE:.0f}" fill="{colour}"'
                    f' textLength="{len(body) * LETTER:.1f}"{weight}>'
                    f"{escape(body)}</text>"
                )
            start = end
    return "".join(parts)


def output(command: str, folder: Path) -> Iterator[bytes]:
    """What a command writes to a terminal, piece by piece.

    Raises:
        CalledProcessError: It failed.
    """
    size = {"COLUMNS": str(COLUMNS), "LINES": str(ROWS), "TERM": "xterm-256color"}
    words = [sys.executable, *command.split()[1:]]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execve(words[0], words, os.environ | size | {"PYTHONPATH": str(folder)})
    try:
        while piece := os.read(terminal, 65536):
            yield piece
    except OSError:  # Linux: the other end is closed
        pass
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != 0:
        raise subprocess.CalledProcessError(code, command)


def record(folder: Path) -> list[Frame]:
    """Type each command, run it in a folder, and keep a screen every few seconds."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    frames = []
    for command in COMMANDS:
        stream.feed(b"$ ")
        for end in range(0, len(command), 4):
            stream.feed(command[end : end + 4].encode())
            frames.append(Frame(draw(screen), 0.06))
        stream.feed(b"\r\n")
        last = time.monotonic()
        for piece in output(command, folder):
            if time.monotonic() - last > EVERY and draw(screen) != frames[-1].text:
                frames.append(Frame(draw(screen), SHOWN))
                last = time.monotonic()
            stream.feed(piece)
        frames.append(Frame(draw(screen), PAUSE))
        stream.feed(b"\r\n")
    return [*frames[:-1], Frame(frames[-1].text, 2 * PAUSE)]


def animate(frames: list[Frame]) -> str:
    """Screens next to each other; the window jumps from one to the next, and starts again."""
    width, height = round(COLUMNS * LETTER + 2 * MARGIN), ROWS * LINE + 2 * MARGIN
    total, passed, steps, screens = sum(frame.seconds for frame in frames), 0.0, "", ""
    for number, frame in enumerate(frames):
        steps += f"{100 * passed / total:.3f}%{{transform:translateX({-number * width}px)}}"
        screens += f'<g transform="translate({number * width} 0)">{frame.text}</g>\n'
        passed += frame.seconds
    last = f"transform:translateX({-(len(frames) - 1) * width}px)"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">\n'
        f"<title>{escape('; then '.join(COMMANDS))}</title>\n"
        f"<style>text{{font:14px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre}}"
        f"@keyframes play{{{steps}100%{{{last}}}}}"
        f".screens{{animation:play {total:.1f}s step-end infinite}}"
        f"@media(prefers-reduced-motion:reduce){{.screens{{animation:none;{last}}}}}</style>\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="#1d232c"/>\n'
        f'<g class="screens">\n{screens}</g>\n</svg>\n'
    )


def main() -> None:
    """Record in a work tree that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "-q", "--detach", tree], check=True)
        try:
            frames = record(tree)
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", tree], check=True)
    TARGET.write_text(animate(frames), encoding="utf-8")
    print(f"{TARGET.relative_to(ROOT)}: {TARGET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
