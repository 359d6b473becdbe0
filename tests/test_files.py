"""What cannot be written: what is in the way, and what to do, before anything is lost."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from climb_opt.errors import UserError
from climb_opt.files import check_folder, is_full, no_space, save_array, write_text, writing


def test_a_file_where_a_folder_is_to_be_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "mixed").write_text("mine")
    for place in (tmp_path / "mixed", tmp_path / "mixed" / "beneath"):
        with pytest.raises(UserError, match=r"mixed' is a file, no folder\. Give another path"):
            check_folder(place)
    with pytest.raises(UserError, match="mixed' is a file, no folder"):
        write_text(tmp_path / "mixed" / "report.html", "")
    assert (tmp_path / "mixed").read_text() == "mine"


def test_a_folder_where_a_file_is_to_be_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"it is a folder\. Give the path of a file"):
        write_text(tmp_path, "")


def test_a_disk_that_fills_up_leaves_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, write = tmp_path / "report.html", Path.write_text
    there.write_text("earlier")

    def half(path: Path, text: str, **options: Any) -> int:
        write(path, text[:2], **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(UserError, match=r"report\.html' cannot be written: no space left on the d"):
        write_text(there, "later")
    assert there.read_text() == "earlier" and list(tmp_path.iterdir()) == [there]


@pytest.mark.skipif(os.name == "nt", reason="Windows limits no file's size")
def test_an_array_of_which_a_part_can_be_written_says_why(tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError) as error:
            save_array(tmp_path / "a.npy", np.ones(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert is_full(error.value) and not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such links and pipes")
def test_links_and_pipes_are_written_to_and_stay_what_they_are(tmp_path: Path) -> None:
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(tmp_path / "file")
    write_text(link, "linked")
    assert link.is_symlink() and (tmp_path / "file").read_text() == "linked"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_text(pipe, "piped")
        assert os.read(reader, 10) == b"piped" and pipe.is_fifo()
    finally:
        os.close(reader)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_rights_is_refused_before_it_is_needed(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        for place in (tmp_path, tmp_path / "runs" / "demo"):
            with pytest.raises(UserError, match="cannot be written: Permission denied"):
                check_folder(place)
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_can_be_written_is_made_and_left_empty(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())


def test_a_full_disk_is_named_with_its_place_and_its_room(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error, writing(tmp_path / "x", kept=" All is kept."):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    free = shutil.disk_usage(tmp_path).free / 1e6
    assert "no space left on the disk of" in str(error.value) and "MB free)" in str(error.value)
    assert str(error.value).endswith("again. All is kept.") and free > 0
    assert str(tmp_path) in no_space(tmp_path)
