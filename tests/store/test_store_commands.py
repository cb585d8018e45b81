"""What goes over the wire for a read and a commit."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
from store_cases import decision_id, record

from decision_service.core.event import EMPTY_LOG
from decision_service.core.facility import Attribute, Facility
from decision_service.core.limits import PARTITIONS
from decision_service.core.links import EMPTY_ENTITY_LOGS, log_name
from decision_service.store import Commit, keys, scripts
from decision_service.store.commands import append_command, commit_command, log_arguments, place_of, read_command
from decision_service.store.records import encode_attribute, encode_facility

ODD_IDS = ["c-1", "c}{", "%b %d", "a\r\nb", "\u5ba2\u6237", "x" * 300]


def words(command: bytes) -> Any:
    """The command as the server reads it; exactly one."""
    reader = hiredis.Reader(notEnoughData=None)
    reader.feed(command)
    read = reader.gets()
    assert reader.gets() is None
    assert not reader.has_data()
    return read


def key_names(customer_id: str) -> list[bytes]:
    partition = keys.partition_of(customer_id, PARTITIONS)
    return [
        keys.meta_key(partition, customer_id),
        keys.log_key(partition, customer_id),
        keys.outbox_key(partition),
        keys.waiting_key(partition),
        keys.marker_key(partition),
        keys.decision_key(partition, decision_id(customer_id)),
    ]


@pytest.mark.parametrize("customer_id", ODD_IDS)
def test_commands_read_names_the_keys(customer_id: str) -> None:
    """A read names meta, log and, if asked for, the frame, whatever stands in the customer's id."""
    place = place_of(customer_id, PARTITIONS)
    meta, log, _, _, marker, frame = key_names(customer_id)
    start = [b"EVALSHA", scripts.READ.sha]
    assert words(read_command(place, None)) == [*start, b"3", meta, log, marker]
    assert words(read_command(place, decision_id(customer_id))) == [*start, b"4", meta, log, marker, frame]


@pytest.mark.parametrize("customer_id", ODD_IDS)
def test_commands_commit_is_what_its_script_is_headed_by(customer_id: str) -> None:
    """A commit that uses everything sends keys and arguments in the order the script states."""
    facility = Facility("f%b", customer_id, "revolver", "CNY", 1, 0, 1, 1_800, "active", 1)
    attribute = Attribute("\u53f7", 1)
    commit = Commit(
        customer_id, 1_234_567, record(1), EMPTY_LOG + record(0), {"f%b": facility}, {"a\r\n": attribute},
        (decision_id(customer_id), b"frame\r\n$3"), [b'{"%d":1}', b"{}"], (b"id\r\n", b"links%b"), "import",
    )  # fmt: skip
    assert words(commit_command(place_of(customer_id, PARTITIONS), commit, b"e1")) == [
        b"EVALSHA", scripts.COMMIT.sha, b"6", *key_names(customer_id),
        b"1234567", b"1234568", EMPTY_LOG + record(0), record(1), b"frame\r\n$3", b"id\r\n", b"links%b",
        b"6", b"header", EMPTY_LOG, b"origin", b"import", b"events", b'{"%d":1}\n{}',
        b"f:f%b", encode_facility(facility), b"a:a\r\n", encode_attribute(attribute),
    ]  # fmt: skip


def test_commands_empty_commit_has_every_fixed_argument() -> None:
    """A commit with nothing in it still sends all that the script counts on."""
    arguments = [b"0:e1", b"1", b"", b"", b"", b"", b"", b"0"]
    expected = [b"EVALSHA", scripts.COMMIT.sha, b"5", *key_names("c-1")[:5], *arguments]
    assert words(commit_command(place_of("c-1", PARTITIONS), Commit("c-1", 0), b"e1")) == expected


def test_commands_append_tells_of_each_log_what_is_held() -> None:
    """Keys, bounds and four arguments a log, in the order the script states; of a held log its two ends."""
    names = [log_name("device", "d%b\r\n"), log_name("payee", "m-1")]
    held = EMPTY_ENTITY_LOGS[0] + record(1) + record(2)
    logs = [
        log_arguments(EMPTY_ENTITY_LOGS[0], record(3), held),
        log_arguments(EMPTY_ENTITY_LOGS[1], record(4) + record(5), None),
    ]
    assert words(append_command(names, PARTITIONS, 1_024, 34_560_000_000, logs)) == [
        b"EVALSHA", scripts.LINK.sha, b"2", *(keys.entity_key(name, PARTITIONS) for name in names),
        b"1024", b"34560000000",
        EMPTY_ENTITY_LOGS[0], record(3), EMPTY_ENTITY_LOGS[0] + record(2), b"128",
        EMPTY_ENTITY_LOGS[1], record(4) + record(5), b"", b"",
    ]  # fmt: skip


@pytest.mark.parametrize("odd", ["", "d000", "\u00e9" * 36, "\u00e9" * 18, "e" + "0" * 35])
def test_commands_foreign_decision_id_is_a_mistake(odd: str) -> None:
    """What is not an id of the customer's partition never becomes part of a command."""
    place = place_of("c-1", PARTITIONS)
    with pytest.raises(ValueError, match="not the id of a decision"):
        read_command(place, odd)
    with pytest.raises(ValueError, match="not the id of a decision"):
        commit_command(place, Commit("c-1", 0, decision=(odd, b"frame")), b"e1")


def test_commands_digest_and_source_stand_for_each_other() -> None:
    """With the source in the place of the digest the command is otherwise the same."""
    command = read_command(place_of("c-1", PARTITIONS), None)
    by_source = words(command.replace(scripts.READ.by_sha, scripts.READ.by_source, 1))
    assert by_source[0] == b"EVAL"
    assert b"redis.call('HGETALL', KEYS[1])" in by_source[1]
    assert by_source[2:] == words(command)[2:]
