"""A command whose reader went away (`decision-service ... | head`) ends quietly, with a status that says so."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "decision_service"]


@pytest.mark.parametrize("arguments", [["--help"], ["rules", "schema", "rules"]])
def test_a_closed_pipe_ends_a_command_quietly(arguments: list[str]) -> None:
    """Nobody reads: status 141, as a shell tells of SIGPIPE, and no traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*COMMAND, *arguments], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_command_read_to_its_end_says_what_happened() -> None:
    """The same through a pipe that is read: status 0."""
    assert subprocess.run([*COMMAND, "--help"], capture_output=True, timeout=60, check=False).returncode == 0
