"""Files are whole or absent."""

import errno
import os
import stat
from pathlib import Path

import pytest

from ablations.errors import UserError
from ablations.files import check_writable, write_atomically, write_forms


def test_text_and_bytes_as_they_are(tmp_path: Path) -> None:
    write_atomically(tmp_path / "text", "a\r\n–")
    write_atomically(tmp_path / "bytes", b"\x00\xff")
    assert (tmp_path / "text").read_bytes() == "a\r\n–".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert len(list(tmp_path.iterdir())) == 2


def test_others_may_read_it(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    write_atomically(tmp_path / "atomic", "")
    assert stat.S_IMODE((tmp_path / "atomic").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_a_failure_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: type[BaseException]
) -> None:
    path = tmp_path / "table.csv"
    write_atomically(path, "old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, place, fail)
    with pytest.raises(error):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "table.md").write_text("old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*/table\.md'$"):
        write_atomically(tmp_path / "table.md", "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("table.md", "old")]


def test_a_thing_in_several_forms(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    paths = write_forms(folder, "seeds=0.5", {".md": "text", ".png": b"\x00"})
    assert paths == [folder / "seeds=0.5.md", folder / "seeds=0.5.png"]
    assert [path.read_bytes() for path in paths] == [b"text", b"\x00"]


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    check_writable("results_dir=x", tmp_path / "new" / "below", ["runs/0", "tables"])
    check_writable("results_dir=x", tmp_path, ["link", "disk/new", ""])
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["disk", "link"]


@pytest.mark.parametrize(
    "place", ["file", "file/below", "dangling", "x" * 300, f"new/{'x' * 300}", "x/" * 2000]
)
def test_a_place_that_cannot_be_written_is_told_in_a_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    for folder, within in ((tmp_path / place, "runs"), (tmp_path, place)):
        with pytest.raises(UserError, match=r"^results_dir=x: cannot be written \(.+\); or so$"):
            check_writable("results_dir=x", folder, ["fine", within], "; or so")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_nobody_may_write_in() -> None:
    with pytest.raises(UserError, match="cannot be written"):
        check_writable("results_dir=/proc", Path("/proc"), ["runs"])
