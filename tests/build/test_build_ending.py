"""How long commands end, and what they refuse to write over."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from decision_service.cli import main
from decision_service.cli.ending import TERMINATED, check_apart, cleaning_up
from decision_service.core.errors import InvalidInput


def test_a_command_that_is_told_to_stop_cleans_up() -> None:
    """SIGTERM unwinds the block and ends with its exit status; afterwards it means what it meant before."""
    before = signal.getsignal(signal.SIGTERM)
    done = []

    def work() -> None:
        with cleaning_up():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                done.append("cleaned")

    with pytest.raises(SystemExit) as ended:
        work()
    assert (ended.value.code, done) == (TERMINATED, ["cleaned"])
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_file_that_is_read_is_not_written_over(tmp_path: Path) -> None:
    """By whatever name it is called; another file may be written."""
    events = tmp_path / "events.csv"
    events.write_text("x")
    check_apart("rejected", tmp_path / "rejected.csv", (events, None))
    check_apart("rejected", None, (events,))
    with pytest.raises(InvalidInput, match="would be lost"):
        check_apart("rejected", tmp_path / "." / "events.csv", (None, events))


@pytest.mark.parametrize("command", ["import", "features"])
def test_the_commands_keep_their_input(tmp_path: Path, command: str) -> None:
    """Naming an input as the file for rejected rows is an error, and the input stays what it is."""
    events = tmp_path / "events.csv"
    events.write_text("customer_id,event_id,kind,occurred_at\n")
    more = [] if command == "import" else ["--at", str(events), "--out", str(tmp_path / "o.parquet")]
    start = [command] if command == "import" else [command, "build"]
    assert main([*start, "--events", str(events), "--rejected", str(events), *more]) == 5
    assert events.read_text() == "customer_id,event_id,kind,occurred_at\n"
