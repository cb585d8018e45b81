"""API keys: hashed, compared without an early exit, replaced while running, expiring, limited to customers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from decision_service.api.keys import (
    CUSTOMERS_MAX,
    RECHECK_S,
    SCOPES,
    KeyFile,
    Principal,
    add_key,
    listed_keys,
    read_keys,
    revoke_key,
)
from decision_service.cli import main
from decision_service.core.errors import SettingInvalid

pytestmark = pytest.mark.fault("I01")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


# --- at rest and in comparison ------------------------------------------------------------------------------------


def test_only_the_hash_of_a_key_is_anywhere(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not the key, nor a part of it, in the file, its partial copy, the listing, the log or the objects in memory."""
    with caplog.at_level(logging.DEBUG):
        key = add_key(file, "bank", ["decide"])
        keys = KeyFile(file)
        assert keys.principal(key.encode(), 1.0) is not None
    everywhere = "".join(path.read_text() for path in file.parent.iterdir()) + caplog.text + repr(vars(keys))
    everywhere += repr(listed_keys(file))
    secret = key.removeprefix("dsk_")
    assert not any(secret[start : start + 8] in everywhere for start in range(len(secret) - 7))
    assert hashlib.sha256(key.encode()).hexdigest() not in repr(listed_keys(file))
    assert len(secret) == 43, "256 bits: a plain hash is enough, and nobody guesses"


def lines_run(check: Callable[[], object]) -> list[tuple[str, int]]:
    """Every line of the keys module that runs while something is checked, in order."""
    lines: list[tuple[str, int]] = []

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.endswith("api/keys.py"):
            return None
        if event == "line":
            lines.append((frame.f_code.co_name, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        check()
    finally:
        sys.settrace(before)
    return lines


def test_a_wrong_key_takes_the_same_way_however_much_of_it_is_right(file: Path) -> None:
    """No line depends on how far a key agrees with a real one: what is looked up is its hash, the comparison is
    constant in time, and it is made for an unknown key as well."""
    key = add_key(file, "bank", ["decide"]).encode()
    keys = KeyFile(file)
    keys.principal(key, 1.0)
    flipped = key[:-1] + (b"A" if key[-1:] != b"A" else b"B")
    wrong = [flipped, b"x" + key[1:], key[:20] + b"A" * 27, key[:-1], key + b"A", b"", b"dsk_", b"\xff" * 47]
    ways = {tuple(lines_run(lambda k=k: keys.principal(k, 1.1))) for k in wrong}  # type: ignore[misc]
    assert len(ways) == 1
    assert all(keys.principal(k, 1.2) is None for k in wrong)
    assert any("compare_digest" in line for line in source_lines(ways.pop()))


def source_lines(lines: tuple[tuple[str, int], ...]) -> list[str]:
    """The text of the lines that ran."""
    text = Path(sys.modules["decision_service.api.keys"].__file__ or "").read_text().splitlines()
    return [text[number - 1] for _, number in lines]


# --- while running ------------------------------------------------------------------------------------------------


def test_a_key_is_replaced_without_a_gap_and_the_old_one_refused_within_a_second(file: Path) -> None:
    """Make a second, use it, revoke the first: at each moment one of them holds."""
    old = add_key(file, "bank", ["decide"]).encode()
    keys = KeyFile(file)
    assert keys.principal(old, 10.0) is not None
    new = add_key(file, "bank-2027", ["decide"]).encode()
    assert keys.principal(new, 10.0 + RECHECK_S) is not None
    assert keys.principal(old, 10.0 + RECHECK_S) is not None
    revoke_key(file, "bank")
    assert keys.principal(old, 10.0 + 2 * RECHECK_S) is None
    assert keys.principal(new, 10.0 + 2 * RECHECK_S) is not None
    assert RECHECK_S <= 1.0


def test_a_key_expires_by_itself(file: Path) -> None:
    """At its instant, not before; the file need not change."""
    now = [1_800_000_000.0]
    key = add_key(file, "temp", ["read"], expires_at="2027-01-15T08:00:00Z").encode()
    keys = KeyFile(file, lambda: now[0])
    assert keys.principal(key, 1.0) is None
    now[0] -= 1e-3
    assert keys.principal(key, 1.0) is not None


def test_changes_at_the_same_moment_do_not_lose_each_other(file: Path) -> None:
    """Twenty keys made at once are twenty keys, and a reader never sees half a file."""
    add_key(file, "first", ["decide"])
    threads = [threading.Thread(target=add_key, args=(file, f"k{i}", ["read"])) for i in range(20)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        read_keys(file)
    for thread in threads:
        thread.join()
    assert {key["name"] for key in listed_keys(file)} == {"first", *(f"k{i}" for i in range(20))}


def test_a_change_keeps_who_may_read_the_file(file: Path) -> None:
    """The service's group still reads it afterwards; that others may write it does not last."""
    add_key(file, "bank", ["decide"])
    file.chmod(0o666)
    add_key(file, "other", ["decide"])
    assert file.stat().st_mode & 0o777 == 0o644
    assert not file.with_name("keys.json.partial").exists()


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o644, False), (0o660, True), (0o606, True)])
def test_a_file_that_others_may_write_is_warned_of(
    mode: int, warned: bool, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Reading it gives nobody access; writing it does."""
    add_key(file, "bank", ["decide"])
    file.chmod(mode)
    with caplog.at_level(logging.WARNING, "decision_service.access"):
        KeyFile(file)
    assert ("may be written by others" in caplog.text) is warned


def test_a_file_that_becomes_unreadable_leaves_the_keys_and_says_so(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a file, then none, then a good one again."""
    key = add_key(file, "bank", ["decide"]).encode()
    good = file.read_bytes()
    keys = KeyFile(file)
    with caplog.at_level(logging.ERROR, "decision_service.access"):
        file.write_bytes(good[: len(good) // 2])
        assert keys.principal(key, 20.0) is not None
        file.unlink()
        assert keys.principal(key, 30.0) is not None
    assert caplog.text.count("the old keys stay") == 2
    file.write_text('{"keys": []}')
    assert keys.principal(key, 40.0) is None
    file.write_bytes(good)
    os.utime(file, ns=(5, 5))
    assert keys.principal(key, 50.0) is not None


# --- what a key is limited to -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("customers", "customer_id", "reached"),
    [
        (None, "c-1", True),
        (("c-1",), "c-1", True),
        (("c-1",), "c-10", False),
        (("c-1",), "C-1", False),
        (("c-1*",), "c-10", True),
        (("retail-*", "c-1"), "retail-7", True),
        (("retail-*", "c-1"), "c-1", True),
        (("retail-*",), "retail-", True),
        (("retail-*",), "retail", False),
        (("retail-*",), "xretail-1", False),
        (("retail-*",), "retail\u2010" + "1", False),
        (("*",), "anybody", True),
        (("a*b",), "axb", False),
        (("[a-z]*",), "a", False),
        ((), "c-1", False),
    ],
)
@pytest.mark.fault("I02")
def test_a_limited_principal_reaches_exactly_its_customers(
    customers: tuple[str, ...] | None, customer_id: str, reached: bool
) -> None:
    """By the whole id, or a prefix and a final star; no other character means anything."""
    assert Principal("p", frozenset(SCOPES), customers).reaches(customer_id) is reached


@pytest.mark.parametrize(
    "change",
    [
        {"customers": "retail-*"},
        {"customers": [""]},
        {"customers": [1]},
        {"customers": ["x" * 129]},
        {"customers": ["x"] * (CUSTOMERS_MAX + 1)},
        {"customer": ["retail-*"]},
        {"Customers": ["retail-*"]},
        {"expires_at": "tomorrow"},
        {"expires_at": "2027-01-01T00:00:00"},
        {"expires_at": 1_800_000_000},
        {"scopes": "admin"},
        {"scopes": [["admin"]]},
        {"sha256": "zz"},
        {"sha256": None},
    ],
)
def test_a_wrong_limit_never_means_no_limit(change: dict[str, Any], file: Path) -> None:
    """A misspelt or malformed field stops the start and names the key, without its hash."""
    add_key(file, "bank", ["decide"])
    entry = json.loads(file.read_text())["keys"][0]
    file.write_text(json.dumps({"keys": [entry | change]}))
    with pytest.raises(SettingInvalid, match="is not a keys file") as caught:
        KeyFile(file)
    assert entry["sha256"] not in str(caught.value)


# --- the commands -------------------------------------------------------------------------------------------------


def test_keys_are_made_listed_and_revoked_from_the_command_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The listing tells name, scopes and limits, never a hash; a key that is not there cannot be revoked."""
    new = ["keys", "new", "--file", str(file), "--scopes", "decide,events", "--name"]
    assert main([*new, "bank"]) == 0
    assert main([*new, "app", "--customers", "retail-*, c-1", "--expires-at", "2027-06-30T00:00:00Z"]) == 0
    assert main([*new, "bad", "--expires-at", "soon"]) == 2
    keys = capsys.readouterr().out.split()
    assert main(["keys", "list", "--file", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "bank: decide,events; all customers",
        "app: decide,events; customers retail-*,c-1, until 2027-06-30T00:00:00Z",
    ]
    assert main(["keys", "list", "--file", str(file), "--json"]) == 0
    assert [key["name"] for key in json.loads(capsys.readouterr().out)] == ["bank", "app"]
    assert main(["keys", "revoke", "--file", str(file), "--name", "nobody"]) == 2
    assert main(["keys", "revoke", "--file", str(file), "--name", "bank"]) == 0
    assert main(["keys", "revoke", "--file", str(file.with_name("none")), "--name", "bank"]) == 2
    known = KeyFile(file)
    assert [known.principal(key.encode(), 1.0) is not None for key in keys] == [False, True]


def test_the_listing_of_a_large_file_is_bounded(file: Path) -> None:
    """More keys than the bound are refused, not read."""
    file.write_text(json.dumps({"keys": [{}] * 10_001}))
    with pytest.raises(SettingInvalid, match="more than 10000 keys"):
        read_keys(file)


def test_no_event_loop_is_needed_to_check_a_key(file: Path) -> None:
    """Keys hold with the store, the key server and everything else down."""
    key = add_key(file, "bank", ["decide"]).encode()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    assert KeyFile(file).principal(key, 1.0) == Principal("bank", frozenset({"decide"}))
