"""The help of the commands that read files names every column."""

from __future__ import annotations

import pytest

from decision_service.build import questions
from decision_service.cli import main
from decision_service.tables import attributes, events, facilities


@pytest.mark.parametrize("command", [["import"], ["features", "build"]])
def test_help_names_every_column(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Needed columns carry a star; a reader needs no other page to write a file."""
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    words = {word.rstrip(",;:") for word in told.split()}
    for table in (events, facilities):
        assert {f"{c}*" if c in table.NEEDED else c for c in table.COLUMNS} <= words
    assert {f"{column}*" for column in attributes.LONG} <= words
    assert command == ["import"] or set(questions.COLUMNS) <= words
