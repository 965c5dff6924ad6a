"""Kill a series a hundred times, fill its disk, take its rights away; in the end nothing must be missing.

Run: python -m tests.workflow.long_kills [kills]
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.workflow.series_scenes import (
    assert_intermediate,
    assert_same,
    assert_same_content,
    count_calls,
    in_child,
    killed_scan,
    run_path,
    volumes,
    write_config,
)
from xmist.core.errors import OutputError
from xmist.io.results.atomic import leftovers

PROJECTIONS = 120
SEED = 8


def kills(folder: Path, number: int) -> None:
    """Kill a series in this process's children at random calls, half of them inside the writing."""
    clean, victim = folder / "clean", folder / "victim"
    for place in (clean, victim):
        write_config(place, PROJECTIONS, series={"block": 1})
    whole = volumes(run_path(clean / "config.toml"))
    few = folder / "few"
    write_config(few, 3, series={"block": 1})
    count, writing = count_calls(few / "config.toml")
    rng = random.Random(SEED)
    inside, done, lost, died, finished = 0, 0, 0, 0, 0
    for turn in range(number):
        write = turn % 2 == 1
        # Up to three blocks of work, and what comes before: about one block is done between two kills.
        moment = rng.randrange(1, writing if write else count)
        code = killed_scan(victim / "config.toml", moment, inside=write)
        died += code == -signal.SIGKILL
        inside += write and code == -signal.SIGKILL
        finished += code == 0
        now = assert_intermediate(victim / "scan.h5", whole)
        lost += now < done
        done = now
    print(f"kills: {died} ({inside} inside the writing), {finished} runs that ended before their moment")
    print(f"projections done after the last kill: {done}; times that one was lost again: {lost}")
    run_path(victim / "config.toml")
    assert_same(whole, volumes(victim / "scan.h5"))
    assert_same_content(clean / "scan.h5", victim / "scan.h5")
    assert not leftovers(victim / "scan_blocks")
    print("the end is the same as that of an undisturbed series, bit for bit")


def kills_of_commands(folder: Path, number: int) -> None:
    """Kill `xmist retrieve --workers 2` by the clock: its parent, or one of its workers."""
    victim = folder / "commands"
    write_config(victim, 1500, series={"block": 2})
    command = [sys.executable, "-m", "xmist", "retrieve", "config.toml", "--workers", "2", "--quiet"]
    rng = random.Random(SEED)
    codes, workers_killed = [], 0
    for turn in range(number):
        process = subprocess.Popen(command, cwd=victim, stderr=subprocess.DEVNULL)
        parent = psutil.Process(process.pid)
        _wait_for_blocks(victim)
        time.sleep(rng.uniform(0.0, 0.3))
        family = [parent, *parent.children(recursive=True)]
        if turn % 2:
            # Workers are children of the process that was copied for them.
            for one in [one for one in family[1:] if one.ppid() != parent.pid][:1]:
                one.kill()
                workers_killed += 1
            _wait_for_blocks(victim)
        if turn < number - 1:
            family = [parent, *parent.children(recursive=True)]
            parent.kill()
        codes.append(process.wait())
        assert not [one for one in psutil.wait_procs(family, timeout=60)[1] if one.is_running()]
    print(
        f"commands: {number} runs, {workers_killed} with a worker killed and {number - 1} with their parent; "
        f"exit codes {codes}"
    )
    same = folder / "same"
    write_config(same, 1500, series={"block": 16})
    assert_same(volumes(run_path(same / "config.toml")), volumes(victim / "scan.h5"))
    print("the end is the same; no worker outlived its parent")


def _wait_for_blocks(folder: Path) -> None:
    """Wait until two more blocks are there."""
    before = len(list(folder.glob("scan_blocks/block_*")))
    end = time.monotonic() + 120
    while len(list(folder.glob("scan_blocks/block_*"))) < before + 2 and time.monotonic() < end:
        time.sleep(0.02)


def full_disk(folder: Path) -> None:
    """Write to a file system of 400 kB, make room, go on."""
    disk = folder / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], check=False)
    if done.returncode:
        print("full disk: not shown here, for mounting a small file system needs rights")
        return
    try:
        # The output must stay in the folder of the configuration: the disk is mounted inside it.
        scan = write_config(folder / "filled", 60, series={"block": 2}, output={"files": ["out/scan.h5"]})
        (scan.parent / "out").mkdir()
        subprocess.run(["mount", "--bind", str(disk), str(scan.parent / "out")], check=True)
        try:
            try:
                run_path(scan)
                print("full disk: no error, which is wrong")
            except OutputError as error:
                print(f"full disk: {error}")
            subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
            whole = write_config(folder / "whole", 60, series={"block": 2})
            assert_same(volumes(run_path(scan)), volumes(run_path(whole)))
            print("full disk: with more room the same command ends as an undisturbed one")
        finally:
            subprocess.run(["umount", str(scan.parent / "out")], check=False)
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def no_rights(folder: Path) -> None:
    """Take the right to write away from a user who has no others, give it back, go on."""
    scan = write_config(folder / "rights", 12, series={"block": 2})
    blocks = scan.parent / "scan_blocks"
    for path in (folder, scan.parent):
        path.chmod(0o777)

    def task() -> int:
        if os.geteuid() == 0:
            os.setuid(65534)
        calls = 0

        def progress(what: str, done: int, total: int) -> None:
            nonlocal calls
            calls += what == "projections"
            if calls == 2:
                blocks.chmod(0o555)

        try:
            run_path(scan, progress=progress)
        except OutputError as error:
            print(f"no rights: {error}", flush=True)
            blocks.chmod(0o755)
            run_path(scan)
            return 3
        return 0

    assert in_child(task) == 3
    whole = write_config(folder / "rights_whole", 12, series={"block": 2})
    assert_same(volumes(scan.parent / "scan.h5"), volumes(run_path(whole)))
    print("no rights: with them the same command ends as an undisturbed one")


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    folder = Path(tempfile.mkdtemp(prefix="xmist-kills-"))
    try:
        begin = time.perf_counter()
        kills(folder, number)
        kills_of_commands(folder, max(2, number // 10 // 2 * 2))
        full_disk(folder)
        no_rights(folder)
        print(f"{time.perf_counter() - begin:.0f} s")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
