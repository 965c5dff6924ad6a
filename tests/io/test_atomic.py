"""A file appears whole or not at all, whatever goes wrong on the way."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.coded import coded
from xmist.core.errors import InputError, OutputError
from xmist.io.results import atomic
from xmist.io.results.atomic import (
    OutputFile,
    folder_errors,
    leftovers,
    target_errors,
    write_file,
    write_files,
)

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit, link or mode")


def _bytes(content):
    return lambda file: file.write(content)


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _failing(number):
    def fail(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    return fail


def test_a_file_is_written_and_nothing_else(tmp_path):
    path = tmp_path / "note.txt"
    assert write_file(path, _bytes(b"new")) == path
    assert path.read_bytes() == b"new"
    assert _names(tmp_path) == ["note.txt"]


def test_overwriting_replaces_the_content_and_keeps_the_permissions(tmp_path):
    path = tmp_path / "note.txt"
    path.write_bytes(b"old")
    path.chmod(0o640)
    write_file(path, _bytes(b"new"), overwrite=True)
    assert path.read_bytes() == b"new"
    if os.name != "nt":
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


@posix
def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_bytes(b"")
    write_file(tmp_path / "ours", _bytes(b""))
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


@posix
def test_a_symbolic_link_is_followed(tmp_path):
    target = tmp_path / "elsewhere" / "target.txt"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    write_file(link, _bytes(b"new"), overwrite=True)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_long_name_leaves_room_for_the_temporary_one(tmp_path):
    path = tmp_path / ("ü" * 120 + ".h5")  # 243 bytes of the 255 that file systems allow
    write_file(path, _bytes(b"new"))
    assert path.read_bytes() == b"new"


def _folder_in_place(folder):
    (folder / "result.h5").mkdir()
    return folder / "result.h5"


def _file_as_folder(folder):
    (folder / "file").write_bytes(b"")
    return folder / "file" / "result.h5"


def _existing(folder):
    (folder / "result.h5").write_bytes(b"old")
    return folder / "result.h5"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda folder: folder / "missing" / "result.h5", "output-invalid"),
        (_folder_in_place, "output-invalid"),
        (_file_as_folder, "output-invalid"),
        (_existing, "output-exists"),
        (lambda folder: folder / ("x" * 300), "output-invalid"),
        (lambda folder: folder / "a\0b", "output-invalid"),
    ],
    ids=["no folder", "folder in place", "file as folder", "existing", "long name", "NUL"],
)
def test_what_cannot_be_written_is_refused_before_writing(tmp_path, make, code):
    path = make(tmp_path)
    before = _names(tmp_path)
    called = []
    with pytest.raises(InputError) as caught:
        write_file(path, called.append)
    assert caught.value.codes == (code,)
    assert path.name in str(caught.value)
    assert not called
    assert _names(tmp_path) == before
    assert target_errors(path) == list(caught.value.records)


def test_a_write_protected_file_is_refused_even_when_overwriting(tmp_path):
    path = _existing(tmp_path)
    path.chmod(0o444)
    with pytest.raises(InputError, check=coded("output-invalid")):
        write_file(path, _bytes(b"new"), overwrite=True)
    assert path.read_bytes() == b"old"
    path.chmod(0o644)


@posix
def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(InputError, check=coded("output-invalid")):
        write_file(tmp_path / "pipe.h5", _bytes(b"new"), overwrite=True)


def test_a_read_only_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(InputError, check=coded("output-invalid")):
        write_file(tmp_path / "result.h5", _bytes(b"new"))
    assert _names(tmp_path) == []


def test_all_errors_of_all_files_at_once(tmp_path):
    jobs = [OutputFile(_existing(tmp_path), _bytes(b"")), OutputFile(tmp_path / "no" / "b.h5", _bytes(b""))]
    with pytest.raises(InputError) as caught:
        write_files(jobs)
    assert caught.value.codes == ("output-invalid", "output-exists")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            OutputError,
            "no space left .* nothing was written",
        ),
        (
            OSError(errno.EFBIG, "File too large"),
            OutputError,
            "no space left .* limits .* nothing was written",
        ),
        (PermissionError(errno.EACCES, "Permission denied"), OutputError, "no permission to write in"),
        (OSError(errno.EIO, "Input/output error"), OutputError, "Input/output error; nothing was written"),
        (InputError("wrong options"), InputError, "wrong options"),
        (ZeroDivisionError(), ZeroDivisionError, None),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
        (SystemExit(143), SystemExit, "143"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_a_failed_writer_leaves_what_stood_there(tmp_path, overwrite, error, raised, message):
    path = tmp_path / "result.h5"
    if overwrite:
        path.write_bytes(b"old")

    def write(file):
        file.write(b"half")
        raise error

    with pytest.raises(raised, match=message) as caught:
        write_file(path, write, overwrite=overwrite)
    if raised is OutputError:
        assert str(path.name) in str(caught.value) or str(tmp_path) in str(caught.value)
        assert ("the existing file is unchanged" in str(caught.value)) == overwrite
    assert _names(tmp_path) == (["result.h5"] if overwrite else [])
    assert not overwrite or path.read_bytes() == b"old"


@pytest.mark.parametrize("step", ["fsync", "open"])
def test_a_full_disk_is_noticed_at_every_step(tmp_path, monkeypatch, step):
    if step == "fsync":
        monkeypatch.setattr(os, "fsync", _failing(errno.ENOSPC))
    else:
        monkeypatch.setattr(Path, "open", _failing(errno.ENOSPC))
    with pytest.raises(OutputError, match=r"no space left .* nothing was written"):
        write_file(tmp_path / "result.h5", _bytes(b"new"))
    assert _names(tmp_path) == []


def test_a_file_system_that_cannot_sync_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", _failing(errno.EINVAL))
    write_file(tmp_path / "result.h5", _bytes(b"new"))
    assert _names(tmp_path) == ["result.h5"]


@pytest.mark.parametrize("error", [ValueError("differ"), InputError("differ"), OSError("differ")])
def test_what_cannot_be_read_back_is_not_placed(tmp_path, error):
    path = tmp_path / "result.h5"
    path.write_bytes(b"old")
    seen = []

    def verify(written):
        seen.append(written.read_bytes())
        raise error

    with pytest.raises(OutputError, match=r"could not be read back .*differ.* nothing was written"):
        write_file(path, _bytes(b"new"), verify, overwrite=True)
    assert seen == [b"new"]  # it was closed and complete by then
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["result.h5"]


def test_a_file_held_open_elsewhere_keeps_the_new_one_and_names_it(tmp_path, monkeypatch):
    path = tmp_path / "result.h5"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", _failing(errno.EACCES))
    with pytest.raises(OutputError, match="is it open in another program") as caught:
        write_file(path, _bytes(b"new"), overwrite=True)
    assert path.read_bytes() == b"old"
    (kept,) = leftovers(tmp_path)
    assert str(kept) in str(caught.value)
    assert kept.read_bytes() == b"new"
    assert kept.name.startswith(".result.h5.")
    monkeypatch.undo()
    write_file(path, _bytes(b"newer"), overwrite=True)  # a leftover is not in the way
    assert path.read_bytes() == b"newer"
    assert leftovers(tmp_path) == [kept]


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path, monkeypatch, links):
    path = tmp_path / "result.h5"
    if not links:
        monkeypatch.setattr(os, "link", _failing(errno.EPERM))
    with pytest.raises(OutputError, match=r"was not replaced\. Nothing was overwritten") as caught:
        write_file(path, _bytes(b"ours"), lambda _: path.write_bytes(b"theirs"))
    assert path.read_bytes() == b"theirs"
    (kept,) = leftovers(tmp_path)
    assert str(kept) in str(caught.value)
    assert kept.read_bytes() == b"ours"


def test_without_hard_links_a_file_is_written_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", _failing(errno.ENOTSUP))
    write_file(tmp_path / "result.h5", _bytes(b"new"))
    assert _names(tmp_path) == ["result.h5"]


def _three(folder):
    return [OutputFile(folder / name, _bytes(f"new {name}".encode())) for name in "abc"]


def test_files_that_belong_together_are_all_written(tmp_path):
    assert write_files(_three(tmp_path)) == [tmp_path / name for name in "abc"]
    assert _names(tmp_path) == ["a", "b", "c"]
    write_files(_three(tmp_path), overwrite=True)
    assert _names(tmp_path) == ["a", "b", "c"]


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_of_files_that_belong_together_none_is_replaced_alone(tmp_path, monkeypatch, links):
    for name in "abc":
        (tmp_path / name).write_bytes(b"old")
    replace = os.replace

    def failing(source, target):
        if Path(target).name == "c":
            raise PermissionError(errno.EACCES, "Permission denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    if not links:
        monkeypatch.setattr(os, "link", _failing(errno.EPERM))
    with pytest.raises(OutputError, match="c could not be replaced"):
        write_files(_three(tmp_path), overwrite=True)
    assert [(tmp_path / name).read_bytes() for name in "abc"] == [b"old"] * 3
    assert sorted(path.read_bytes() for path in leftovers(tmp_path)) == [b"new a", b"new b", b"new c"]


def test_of_files_that_belong_together_none_appears_alone(tmp_path):
    jobs = _three(tmp_path)

    def verify(_):
        jobs[2].path.write_bytes(b"theirs")

    jobs[2] = OutputFile(jobs[2].path, jobs[2].content, verify)
    with pytest.raises(OutputError, match="c was created"):
        write_files(jobs)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["c"]
    assert (tmp_path / "c").read_bytes() == b"theirs"
    assert len(leftovers(tmp_path)) == 3


def test_when_one_of_the_files_fails_none_is_written(tmp_path):
    jobs = _three(tmp_path)
    jobs[1] = OutputFile(jobs[1].path, _failing(errno.ENOSPC))
    with pytest.raises(OutputError, match=r"b: no space left"):
        write_files(jobs)
    assert _names(tmp_path) == []


def test_an_interrupt_while_placing_takes_all_back(tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / name).write_bytes(b"old")
    place = atomic._second_name

    def interrupted(final):
        if final.name == "b":
            raise KeyboardInterrupt
        return place(final)

    monkeypatch.setattr(atomic, "_second_name", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_files(_three(tmp_path), overwrite=True)
    assert [(tmp_path / name).read_bytes() for name in "abc"] == [b"old"] * 3
    assert _names(tmp_path) == ["a", "b", "c"]


def test_other_hidden_files_are_no_leftovers(tmp_path):
    for name in (".result.h5.partial", "result.h5.0123456789abcdef.partial", ".bashrc"):
        (tmp_path / name).write_bytes(b"")
    assert leftovers(tmp_path) == []


@posix
def test_a_limit_on_the_size_of_files_is_told(tmp_path):
    code = """
import resource, sys
from pathlib import Path
from xmist.core.errors import OutputError
from xmist.io.results.atomic import write_file
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_file(Path(sys.argv[1]), lambda file: file.write(bytes(5000)))
except OutputError as error:
    print(error)
"""
    path = tmp_path / "result.h5"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "no space left" in done.stdout
    assert "nothing was written" in done.stdout
    assert done.stderr == ""
    assert _names(tmp_path) == []


@posix
def test_folders_that_cannot_be_made_are_refused_without_making_them(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("nowhere")
    assert folder_errors(tmp_path) == folder_errors(tmp_path / "new" / "folder") == []
    for name in ("file", "file/below", "link/below", "x" * 300, "nul\0"):
        [error] = folder_errors(tmp_path / name)
        assert error.code == "output-invalid"
        assert str(tmp_path) in error.message
    monkeypatch.setattr(atomic.os, "access", lambda *_: False)
    [error] = folder_errors(tmp_path / "new" / "folder")
    assert error.code == "output-invalid"
    assert _names(tmp_path) == ["file", "link"]
