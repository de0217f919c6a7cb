"""`python -m resattn.benchmarks.child ARGUMENTS`: runs `resattn ARGUMENTS` and prints as JSON what
it took.

It imports little: the system counts the memory of the process that starts a command as memory of
the command as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def main() -> None:
    # Compiled modules are kept between runs, as Python does unless this is set.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "resattn", *sys.argv[1:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment,
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    # Of the command and of the processes that it has started and waited for.
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    found = {
        "status": process.returncode,
        "errors": errors,
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "memory": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
