"""`decision-service reconcile`: what a caller was told beside what the store knows, and repair."""

from __future__ import annotations

import asyncio
import csv
import tracemalloc
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest_service import Run, Started, decide
from reconcile_cases import PARTITIONS, LivedStore, kept, log_of, question, reconcile

from decision_service.cli import main
from decision_service.core.errors import StoreUnsafe
from decision_service.core.event import drawdown_key, holds_key
from decision_service.core.retention import trim_front
from decision_service.decision_log import decode
from decision_service.reconcile.acknowledged import AcknowledgedList
from decision_service.reconcile.comparing import Comparing
from decision_service.reconcile.findings import Findings
from decision_service.store.keys import decision_id_of
from decision_service.store.open import open_store
from valkey_server import ValkeyServer

NEEDED = ("request_id", "customer_id", "decision", "approved_amount")


@pytest.fixture
def lived(valkey_server: ValkeyServer, run: Run, monkeypatch: pytest.MonkeyPatch) -> LivedStore:
    """A store to live in."""
    monkeypatch.setenv("DECISION_SERVICE_PARTITIONS", str(PARTITIONS))
    return LivedStore(valkey_server, run)


@pytest.fixture
def draws(lived: LivedStore) -> list[dict[str, Any]]:
    """Two customers draw three times each: 100, 100 and, refused, 5,000."""
    return lived.ask(
        *(question(n, customer, 5_000_00 if n == 2 else 100_00) for customer in (1, 2) for n in range(3))
    )  # fmt: skip


def test_nothing_is_wrong(
    lived: LivedStore, draws: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every answer that a caller keeps is stored as it was told: status 0."""
    listed = kept(tmp_path / "told.jsonl", draws)
    status, told = reconcile(capsys, lived.server.url, listed, "--since", "2026-01-01", "--verify")
    assert (status, told["acknowledged"], told["agreed"], told["stored"], told["verified"]) == (0, 6, 6, 6, 6)
    assert told["findings"] == []


def test_a_table_of_four_columns_is_enough(
    lived: LivedStore, draws: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A CSV file with other columns beside the four needed will do."""
    path = tmp_path / "told.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.writer(file)
        table.writerow([*NEEDED, "branch"])
        table.writerows([answer[name] for name in NEEDED] + ["Xi'an"] for answer in draws)
    status, told = reconcile(capsys, lived.server.url, path)
    assert (status, told["agreed"]) == (0, 6)


@pytest.mark.fault("C02", "B16")
def test_a_lost_approval_is_put_back_and_its_limit_is_not_lent_again(
    lived: LivedStore, run: Run, draws: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lost with its log record: found; repaired; a retry gets outcome and amount again; the line has 200 less."""
    lost = lived.ask(question(3, amount=700_00))[0]
    assert lost["decision"] == "approve"
    lived.lose(lost)
    listed = kept(tmp_path / "told.jsonl", [*draws, lost])
    status, told = reconcile(capsys, lived.server.url, listed)
    assert (status, told["lost"], told["repaired"]["lost"]) == (1, 1, 0)
    assert told["findings"][0]["decision_id"] == lost["decision_id"]
    assert told["findings"][0]["acknowledged"] == {"decision": "approve", "approved_amount": 700.0}
    for _ in range(2):  # the second run repairs nothing a second time
        reconcile(capsys, lived.server.url, listed, "--repair")
    assert reconcile(capsys, lived.server.url, listed, "--since", "2026-01-01", "--verify")[0] == 0
    assert log_of(lived, "c-1").count(drawdown_key(lost["decision_id"]).to_bytes(8, "little")) == 1


@pytest.mark.fault("C02")
def test_a_retry_of_what_was_lost_gets_what_was_told(
    lived: LivedStore, draws: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The retry, by any fingerprint, gets outcome and amount; the next draw sees the exposure; the trace says why."""
    lost = lived.ask(question(3, amount=700_00))[0]
    lived.lose(lost)
    reconcile(capsys, lived.server.url, kept(tmp_path / "told.jsonl", [lost]), "--repair")

    async def again(service: Started) -> tuple[Any, ...]:
        retry = await decide(service, question(3, amount=700_00))
        explained = await service.decisions.decision(lost["decision_id"])
        over = await decide(service, question(4, amount=200_00))
        return retry, orjson.loads(explained), orjson.loads(over.body)

    retry, explained, over = lived.asked(again)
    answer = orjson.loads(retry.body)
    assert retry.replayed
    assert (answer["decision"], answer["approved_amount"], answer["decided_at"]) == (
        lost["decision"], lost["approved_amount"], lost["decided_at"],
    )  # fmt: skip
    assert answer["tags"] == ["reconstructed"]
    assert explained["trace"]["request"]["request_id"] == lost["request_id"]
    assert over["decision"] == "hold"


@pytest.mark.fault("C02")
def test_a_lost_hold_stays_a_hold(
    lived: LivedStore, draws: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hold that is lost is put back, so that a retry is not decided anew, without a record nobody knows."""
    lost = draws[2]
    assert lost["decision"] == "hold"
    lived.lose(lost)
    _, told = reconcile(capsys, lived.server.url, kept(tmp_path / "told.jsonl", draws, NEEDED), "--repair")
    assert (told["lost"], told["repaired"]["lost"]) == (1, 1)
    again = lived.ask(question(2, amount=1_00))[0]
    assert (again["decision"], again["approved_amount"]) == ("hold", 0)
    assert again["hold"]["kind"] == "review"
    assert not holds_key(log_of(lived, "c-1"), drawdown_key(lost["decision_id"]))


@pytest.mark.fault("B17", "C02")
def test_everything_is_lost(
    lived: LivedStore, draws: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Into an empty store all answers are put back; an approval of an unknown line only if the list names it."""
    with lived.server.client() as client:
        client.flushall()
    bare = kept(tmp_path / "bare.jsonl", draws, NEEDED)
    _, told = reconcile(capsys, lived.server.url, bare, "--repair")
    assert (told["lost"], told["repaired"]["lost"]) == (6, 2)
    assert "give its facility_id" in told["findings"][0]["repair"]
    status, told = reconcile(capsys, lived.server.url, kept(tmp_path / "told.jsonl", draws), "--repair")
    assert (status, told["lost"], told["repaired"]["lost"]) == (1, 4, 4)
    status, told = reconcile(capsys, lived.server.url, bare, "--since", "2026-01-01", "--verify")
    assert (status, told["agreed"], told["verified"]) == (0, 6, 6)


@pytest.mark.fault("B17", "H20")
def test_a_store_that_was_emptied_is_accepted_once_it_is_repaired(
    lived: LivedStore, draws: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host that knew the store refuses it empty, and refuses it repaired, until --accept-history says that it is
    right; then a customer whose answers are put back goes on where it was."""

    async def sees() -> int:
        store = open_store(lived.server.url, partitions=PARTITIONS, data_dir=tmp_path / "host")
        try:
            return len((await store.read("c-1", None, 5.0)).log) // 64 - 1
        finally:
            await store.close()

    assert asyncio.run(sees()) == 3
    with lived.server.client() as client:
        client.flushall()
    where = (kept(tmp_path / "told.jsonl", draws), "--data-dir", tmp_path / "host", "--repair")
    with pytest.raises(StoreUnsafe):
        asyncio.run(sees())
    assert reconcile(capsys, lived.server.url, *where)[1]["repaired"]["lost"] == 6
    with pytest.raises(StoreUnsafe):
        asyncio.run(sees())
    assert (
        main(["reconcile", "--redis-url", lived.server.url, "--data-dir", str(tmp_path / "x"), "--accept-history"]) == 0
    )
    assert "x remembered no history before; hosts that do go on refusing the store" in capsys.readouterr().err
    with pytest.raises(StoreUnsafe):
        asyncio.run(sees())
    assert reconcile(capsys, lived.server.url, *where, "--accept-history")[0] == 0
    assert asyncio.run(sees()) == 2  # the hold's record is not made up


def test_another_answer_is_told_and_what_was_paid_beyond_it_reserved(
    lived: LivedStore, draws: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store holds 100 and a hold; the caller was told 400 and 50: 350 more are reserved, once."""
    told_otherwise = [
        {**draws[0], "approved_amount": 400.00}, {**draws[2], "decision": "approve", "approved_amount": 50.00},
    ]  # fmt: skip
    listed = kept(tmp_path / "told.jsonl", [*told_otherwise, draws[1]])
    status, told = reconcile(capsys, lived.server.url, listed)
    assert (status, told["different"], told["agreed"]) == (1, 2, 1)
    assert told["findings"][0]["stored"]["approved_amount"] == 100.0
    before = len(log_of(lived, "c-1"))
    for _ in range(2):
        status, told = reconcile(capsys, lived.server.url, listed, "--repair")
        assert (status, told["repaired"]["different"]) == (1, 2)
    assert len(log_of(lived, "c-1")) == before + 2 * 64
    left = lived.ask(question(8, amount=451_00), question(9, amount=450_00))
    assert [answer["decision"] for answer in left] == ["hold", "approve"]  # of 1,000: 200, 300 and 50 are gone


def test_decisions_that_the_list_lacks_are_told_by_their_instants(
    lived: LivedStore, draws: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only with --since, and only of the span."""
    listed = kept(tmp_path / "told.jsonl", draws[1:])
    assert reconcile(capsys, lived.server.url, listed)[0] == 0
    status, told = reconcile(capsys, lived.server.url, listed, "--since", "2026-11-01")
    assert (status, told["unaccounted"]) == (1, 1)
    assert told["findings"][0]["request_id"] == draws[0]["request_id"]
    assert told["findings"][0]["stored"]["approved_amount"] == 100.0
    assert reconcile(capsys, lived.server.url, listed, "--since", "2020-01-01", "--until", "2026-01-01")[0] == 0


@pytest.mark.fault("H09", "B15")
def test_damage_is_found_and_a_missing_record_put_back(
    lived: LivedStore, draws: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No frame, a torn one, one of another decision, a log without the record, a log that is none: each by name."""
    with lived.server.client() as client:
        client.delete(lived.key(draws[0]))
        client.setrange(lived.key(draws[1]), 0, b"XXXX")
        client.set(lived.key(draws[2]), client.get(lived.key(draws[3])))
        log = client.get(lived.log_key(draws[4]))
        client.set(lived.log_key(draws[4]), log[:128] + log[192:])
    found = tmp_path / "found.jsonl"
    status, told = reconcile(capsys, lived.server.url, "--verify", "--repair", "--findings", found)
    assert (status, told["damaged"], told["repaired"]["damaged"]) == (1, 4, 1)
    lines = [orjson.loads(line) for line in found.read_bytes().splitlines()]
    notes = {line["decision_id"]: line["note"] for line in lines}
    expected = (
        "the outbox tells of it, and there is no frame", "not a decision frame: b'XXXX",
        "its frame is that of another decision", "its record is not in the customer's log",
    )  # fmt: skip
    for draw, note in zip((*draws[:3], draws[4]), expected, strict=True):
        assert notes[draw["decision_id"]].startswith(note)
    with lived.server.client() as client:
        for draw in draws[:3]:
            client.delete(lived.key(draw))
            client.xtrim(lived.outbox_key(draw), maxlen=0)
        client.delete(lived.log_key(draws[5]))
        client.hset(lived.log_key(draws[5]), "no", "log")
    status, told = reconcile(capsys, lived.server.url, "--verify", "--since", "2026-01-01")
    assert {line["note"] for line in told["findings"]} <= {"the customer cannot be read"}
    assert status == (1 if told["verified"] else 0)


def test_records_that_retention_trimmed_are_not_missed(
    lived: LivedStore, draws: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log that forgot its oldest records says up to when; decisions from before are whole without theirs."""
    with lived.server.client() as client:
        client.set(lived.log_key(draws[0]), trim_front(client.get(lived.log_key(draws[0])), 2))
    assert reconcile(capsys, lived.server.url, "--verify")[0] == 0


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("told.txt", "", "one of .jsonl, .ndjson, .csv is expected"),
        ("told.csv", "request_id,customer_id,decision\nr,c,approve\n", "has no column 'approved_amount'"),
        ("told.csv", "request_id,customer_id,decision,approved_amount\nr,c,approve,1,2\n", "row 1: more cells"),
        ("told.csv", "request_id,customer_id,decision,approved_amount\nr,c,yes,1\n", "row 1: decision is 'yes'"),
        ("told.csv", "request_id,customer_id,decision,approved_amount\nr,c,hold,nan\n", "approved_amount"),
        ("told.csv", "request_id,customer_id,decision,approved_amount\nr,c,hold,-1\n", "approved_amount"),
        ("told.csv", "request_id,customer_id,decision,approved_amount\n,c,hold,1\n", "request_id must be a text"),
        ("told.jsonl", "{}\n", "row 1: request_id must be a text"),
        ("told.jsonl", "[]\n", "row 1: not a JSON object"),
        ("told.jsonl", '{"request_id"', "row 1: not JSON"),
        ("told.jsonl", "x" * 70_000, "row 1: a line has at most"),
        ("told.jsonl", '{"request_id":"r","customer_id":"c","decision":"hold","approved_amount":0,"decision_id":"d"}',
         "decision_id is not that of this customer"),
    ],
)  # fmt: skip
def test_a_wrong_list_is_refused_before_anything_is_changed(
    name: str, content: str, said: str, valkey: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 5, and the message names the row."""
    (tmp_path / name).write_text(content)
    status, told = reconcile(capsys, valkey, tmp_path / name, "--repair")
    assert status == 5
    assert said in told["error"]


def test_a_store_that_is_not_there_is_status_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The list is read, the store refuses."""
    listed = tmp_path / "told.csv"
    listed.write_text(",".join(NEEDED) + "\nr,c,hold,0\n")
    assert reconcile(capsys, "redis://127.0.0.1:1/0", listed)[0] == 3


@pytest.mark.slow
def test_memory_is_8_bytes_a_row(tmp_path: Path) -> None:
    """Ten times the rows cost ten times 8 bytes and nothing else."""
    peaks = []
    for rows in (5_000, 50_000):
        path = tmp_path / f"{rows}.csv"
        lines = (f"r-{n},c-{n % 997},approve,{n}.5\n" for n in range(rows))
        path.write_text(",".join(NEEDED) + "\n" + "".join(lines))
        comparing = Comparing(None, PARTITIONS, Findings(), None, lambda _: None, lambda *_: None)  # type: ignore[arg-type]
        tracemalloc.start()
        comparing.check_list(AcknowledgedList(path, PARTITIONS))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 45_000 * 24 + 200_000  # array, its sorted copy, and the room arrays grow into


def test_a_reconstruction_can_be_told_from_a_decision(
    lived: LivedStore, draws: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its frame has the tag, no policy and no fingerprint."""
    lived.lose(draws[5])
    reconcile(capsys, lived.server.url, kept(tmp_path / "told.jsonl", draws), "--repair")
    with lived.server.client() as client:
        frame = decode(client.get(lived.key(draws[5])))
    assert (frame.fingerprint, frame.rest["policy_id"]) == (b"", "")
    assert orjson.loads(frame.answer)["decision_id"] == decision_id_of("c-2", "r-2-2", PARTITIONS)
