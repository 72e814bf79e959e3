"""Parts of a benchmark that end in different ways; the processes that run them import no large libraries."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

RECORDS = [
    {"labels": {"n": 1}, "status": "measured", "ms": 1.0},
    {"labels": {"n": 2}, "status": "running"},
    {"labels": {"n": 3}, "status": "not run"},
]


def end(exit_code: int, num_records: int, cases_file: Path):
    cases_file.write_text(json.dumps(RECORDS[:num_records]))
    os._exit(exit_code)


def hang(process_file: Path, cases_file: Path):
    """Starts a child process, writes its id, and hangs."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    process_file.write_text(str(child.pid))
    cases_file.write_text(json.dumps(RECORDS))
    time.sleep(600)
