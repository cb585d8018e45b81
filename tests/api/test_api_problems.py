"""Errors end in one table each: problem documents for HTTP, exit statuses for the command line."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest

from decision_service.api import refusals
from decision_service.api.json_body import path_at
from decision_service.api.problems import TABLE, problem_of
from decision_service.cli import COMMANDS, EXIT_STATUS, main, usage
from decision_service.core import errors


def tree(
    root: type[errors.DecisionServiceError] = errors.DecisionServiceError,
) -> Iterator[type[errors.DecisionServiceError]]:
    """Every operating error that exists."""
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("kind", sorted(set(tree()), key=lambda kind: kind.__name__))
def test_every_error_is_mapped_by_itself(kind: type[errors.DecisionServiceError]) -> None:
    """A new error class without a line in the table fails here, not in production."""
    assert kind in TABLE, f"{kind.__name__} has no line in api/problems.py"
    assert kind.code
    if kind.__module__ == errors.__name__:
        assert (
            kind is errors.DecisionServiceError
            or next(EXIT_STATUS[k] for k in kind.__mro__ if k in EXIT_STATUS)
            != EXIT_STATUS[errors.DecisionServiceError]
        )


def test_codes_are_unique() -> None:
    """A caller may switch on the code."""
    codes = [kind.code for kind in set(tree())]
    assert len(codes) == len(set(codes))


def test_a_problem_carries_its_headers() -> None:
    """What the status means for a client stands in the header it reads."""
    assert dict(problem_of(refusals.RateLimited(7))[2])[b"retry-after"] == b"7"
    assert dict(problem_of(refusals.MethodNotAllowed(("GET", "PUT")))[2])[b"allow"] == b"GET, PUT"
    assert b"www-authenticate" in dict(problem_of(refusals.Unauthenticated("x"))[2])
    assert b"retry-after" in dict(problem_of(errors.Draining("x"))[2])


@pytest.mark.parametrize(
    ("prefix", "path"),
    [
        (b"", ""),
        (b'{"a": ', "a"),
        (b'{"a": {"b": [1, {"c": ', "a.b.1.c"),
        (b'{"a": 1, "b', ""),
        (b'{"a": 1, "b": "x', "b"),
        (b'{"a": {"x": 1}, "b": ', "b"),
        (b'{"a": "}{,:", "b": [', "b.0"),
        (b'{"a": "\\"", "b": ', "b"),
        (b"]]}}::,,", ""),
    ],
)
def test_the_path_of_a_broken_value_is_found(prefix: bytes, path: str) -> None:
    """Whatever stands before the error, the field being written is named."""
    assert path_at(prefix) == path


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_exists_and_is_listed(command: str) -> None:
    """The table of commands matches the modules, and help shows each with its line."""
    module = importlib.import_module(f"decision_service.cli.{COMMANDS[command][0]}")
    assert callable(module.add_arguments)
    assert callable(module.run)
    assert f"  {command}" in usage()


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, and the list of commands."""
    assert main(["srve"]) == 2
    assert "serve" in capsys.readouterr().err


def test_a_key_is_printed_once(tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]) -> None:
    """`keys new` prints the key and stores its hash; an unknown scope or a taken name makes nothing."""
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    arguments = ["keys", "new", "--file", str(file), "--name", "bank", "--scopes"]
    assert main([*arguments, "decide,events"]) == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("dsk_")
    assert key not in file.read_text()
    before = file.read_bytes()
    assert main([*arguments, "decide"]) == 2
    assert main([*arguments[:-2], "other", "--scopes", "root"]) == 2
    assert file.read_bytes() == before
