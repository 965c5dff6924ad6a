"""Call functions in a child process, so that a damaged file that crashes a library does not end this one."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from xmist.core.errors import InputError, OutputError

# Headers of a hundred thousand files on a slow disk take minutes; a library in an endless loop never ends.
OPENING: Final = 1800.0
_SERVE: Final = "from xmist.workflow.guard import serve; serve()"


def call(function: Callable[..., Any], *arguments: Any, what: str, timeout: float | None = OPENING) -> Any:
    """Call a function in a fresh child process."""
    payload = pickle.dumps((function, arguments))
    # Not multiprocessing: it would run the script that called us once more in the child.
    with subprocess.Popen(
        [sys.executable, "-c", _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)},
    ) as child:
        try:
            answer, _ = child.communicate(payload, timeout)
        except subprocess.TimeoutExpired:
            raise InputError(
                f"{what} did not end within {timeout:.0f} s; a file is damaged, or the disk does not answer",
                code="file-damaged",
            ) from None
        finally:
            if child.poll() is None:
                child.kill()
    if not answer:
        raise InputError(
            f"{what} ended {_died(child.returncode)}: a damaged file probably ended the process; copy or "
            "record it again",
            code="file-damaged",
        )
    kind, value = pickle.loads(answer)
    if kind == "input":
        raise InputError(value)
    if kind == "output":
        raise OutputError(value)
    if kind == "memory":
        raise MemoryError(value)
    if kind == "error":
        raise RuntimeError(value)
    return value


def serve() -> None:
    """Answer one `call` on stdin and stdout."""
    # Whatever a library prints goes to stderr, not into the answer.
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    function, arguments = pickle.load(sys.stdin.buffer)
    try:
        answer: tuple[str, Any] = ("value", function(*arguments))
    except InputError as error:
        answer = ("input", error.records)
    except OutputError as error:
        answer = ("output", str(error))
    except MemoryError as error:
        answer = ("memory", str(error))
    except Exception as error:  # the parent reports it
        answer = ("error", f"{type(error).__name__}: {error}")
    with channel:
        pickle.dump(answer, channel, protocol=pickle.HIGHEST_PROTOCOL)


def _died(code: int) -> str:
    try:
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
    except ValueError:
        return f"with code {code}"


def peak_memory() -> int | None:
    """Return the peak memory of this process in bytes; None where the system does not state it."""
    # Linux carries the peak of getrusage over from the process that started this one.
    with suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else 1024 * peak)
