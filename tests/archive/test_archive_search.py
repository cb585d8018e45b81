"""Search: page by page it tells what a plain look at every row tells, newest first."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from archive_cases import NOON_MS, PARTITION, decided_row
from made_archives import DAY_MS, TOMORROW_MS, put

from decision_service.archive.chain import GENESIS, chained
from decision_service.archive.compaction import compact
from decision_service.archive.files import Archive
from decision_service.archive.rows import signed
from decision_service.archive.schema import Row
from decision_service.archive.search import Cursor, Page, Question, key_of, search
from decision_service.cli.archive_search import one_line
from decision_service.core.links import customer_key
from decision_service.store.keys import partition_of

CUSTOMERS = ("c-1", "c-2", "c-3", "c-4")
PLACES = sorted({partition_of(customer, 8) for customer in CUSTOMERS})
BEGIN_MS = NOON_MS - NOON_MS % DAY_MS - 3 * DAY_MS


def drawn_rows(count: int, days: int = 4) -> list[Row]:
    """Rows of several places over some days, drawn: outcomes, reasons, rules, policies, customers, several at once."""
    drawn = random.Random(11)
    template = decided_row(1)
    rows = []
    for n in range(count):
        customer = drawn.choice(CUSTOMERS)
        rows.append(
            template._replace(
                partition=partition_of(customer, 8),
                at_ms=BEGIN_MS + drawn.randrange(days * DAY_MS // 1_000) * 1_000, at_n=n,
                decision_id=f"d{n:035x}", customer_id=customer, customer_key=signed(customer_key(customer)),
                outcome=drawn.choice(["approve", "hold", "reprice"]), policy_id=drawn.choice(["p1", "p2"]),
                reasons=drawn.sample(["RC10", "RC11", "RC30"], drawn.randrange(4)),
                rules=drawn.choice([None, [], ["burst"], ["odd_hour", "burst"]]),
                kind=drawn.choice(["change", "change", "change", "shadow"]),
            )
        )  # fmt: skip
    rows.append(rows[0]._replace(at_n=count, outcome=None))  # a change without a decision
    return sorted(rows, key=lambda row: (row.partition, row.at_ms, row.at_n))


def archived(archive: Archive, rows: list[Row], parts: int = 2) -> None:
    """Write rows place by place and day by day, each in several segments."""
    for place in PLACES:
        of_place = chained([row for row in rows if row.partition == place], 0, GENESIS)
        previous = GENESIS
        for day in range(4):
            of_day = [row for row in of_place if (row.at_ms - BEGIN_MS) // DAY_MS == day]
            size = max(1, -(-len(of_day) // parts))
            for start in range(0, len(of_day), size):
                some = of_day[start : start + size]
                put(archive, some, previous)
                previous = some[-1].hash or b""


def pages(archive: Archive, question: Question, waiting: list[Row] | None = None) -> list[Row]:
    """All pages, one behind the other."""
    rows: list[Row] = []
    while True:
        page = search(archive, question, 8, waiting or ())
        assert len(page.rows) <= question.limit
        rows += page.rows
        if page.after is None:
            return rows
        assert page.rows or page.after != question.after
        question = question._replace(after=page.after)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return drawn_rows(240)


@pytest.fixture(scope="module")
def archive(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Archive:
    made = Archive(tmp_path_factory.mktemp("search") / "archive")
    archived(made, rows)
    return made


QUESTIONS = {
    "everything": Question(),
    "a customer": Question(customer_id="c-1"),
    "a customer and an outcome": Question(customer_id="c-2", outcome="hold"),
    "an outcome": Question(outcome="reprice"),
    "a reason": Question(reason="RC11"),
    "a rule": Question(rule="burst"),
    "a policy": Question(policy="p2"),
    "a span": Question(since_ms=BEGIN_MS + DAY_MS // 2, until_ms=BEGIN_MS + 2 * DAY_MS + 7_000),
    "all of it": Question(BEGIN_MS, BEGIN_MS + 3 * DAY_MS, "c-1", "hold", "RC10", "burst", "p1"),
    "nothing": Question(rule="no_such_rule"),
    "nobody": Question(customer_id="c-9"),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS.keys())
@pytest.mark.parametrize("limit", [1, 7, 500])
def test_pages_tell_what_a_look_at_every_row_tells(
    archive: Archive, rows: list[Row], question: Question, limit: int
) -> None:
    """The same decisions, once each, newest first, however long the pages are."""
    expected = sorted((key_of(row) for row in rows if question.fits(row)), reverse=True)
    if limit == 1:
        question = question._replace(since_ms=max(question.since_ms, BEGIN_MS + 3 * DAY_MS))
        expected = [key for key in expected if key.at_ms >= question.since_ms]
    assert [key_of(row) for row in pages(archive, question._replace(limit=limit))] == expected


def test_what_waits_is_told_with_what_is_archived(archive: Archive, rows: list[Row]) -> None:
    """Decisions that are not archived, or in this moment, stand in their order, once."""
    newer = [rows[5]._replace(at_ms=BEGIN_MS + 4 * DAY_MS, at_n=n, outcome="hold", kind="change") for n in range(3)]
    between = rows[5]._replace(at_ms=BEGIN_MS + DAY_MS, at_n=9_999, outcome="hold", kind="change")
    archived_already = next(row for row in rows if Question(outcome="hold").fits(row))
    told = pages(archive, Question(outcome="hold", limit=5), [*newer, between, archived_already])
    expected = {key_of(row) for row in (*newer, between, *(r for r in rows if Question(outcome="hold").fits(r)))}
    assert [key_of(row) for row in told] == sorted(expected, reverse=True)


def test_a_page_ends_when_it_has_worked_long_enough(archive: Archive, rows: list[Row]) -> None:
    """Between two days, with what it found by then and where the next one begins."""
    ticks = iter(range(0, 1_000, 10))

    def page(question: Question) -> Page:
        return search(archive, question, 8, clock=lambda: float(next(ticks)))

    told = page(Question(limit=500))
    last_day = [row for row in rows if row.at_ms >= BEGIN_MS + 3 * DAY_MS and Question().fits(row)]
    assert len(told.rows) == len(last_day)
    assert told.searched_from_ms == BEGIN_MS + 3 * DAY_MS
    assert told.after is not None
    assert Cursor.parse(str(told.after)) == told.after
    rest = pages(archive, Question(limit=500, after=told.after))
    assert len(rest) + len(told.rows) == sum(map(Question().fits, rows))


def test_pages_go_on_while_files_are_merged(rows: list[Row], tmp_path: Path) -> None:
    """What is merged between a listing and a reading is read from where it is then."""
    archive = Archive(tmp_path / "archive")
    archived(archive, rows)

    class Late(Archive):
        opened = 0

        def open(self, segment: object) -> object:
            self.opened += 1
            if self.opened in (5, 30):
                for _ in compact(archive, PLACES, TOMORROW_MS, grace_ms=0, day=None):
                    pass
            return super().open(segment)  # type: ignore[arg-type]

    expected = sorted((key_of(row) for row in rows if Question().fits(row)), reverse=True)
    late = Late(archive.url)
    assert [key_of(row) for row in pages(late, Question(limit=50))] == expected
    assert late.opened > 30


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "7-1",
        "7.1",
        "x-1.2",
        "1-2.3.4",
        "1-2.x",
        "٣-1.2",
        "1-1." + "9" * 90,
        "9" * 16 + "-0.1",
        "1-" + "9" * 20 + ".1",
    ],
)
def test_a_cursor_is_one_that_was_told(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="must be the `after` of the page before"):
        Cursor.parse(text)


def test_the_partition_of_a_customer_is_all_that_is_looked_at() -> None:
    """Of one customer one place; without one, all."""
    assert Question(customer_id="c-1").places(8) == [partition_of("c-1", 8)]
    assert Question().places(8) == list(range(8))
    assert PARTITION not in Question().places(8)


def test_ids_stay_on_their_line() -> None:
    """An id that a caller chose neither ends a line nor drives the terminal; letters of all sorts stay."""
    assert one_line("a\nb\x1b[2J\u202e") == "a\\nb\\x1b[2J\\u202e"
    assert one_line("c-客户 1") == "c-客户 1"
