"""Entity logs: how they are named, what stands in them, and how long they stay what they are."""

from __future__ import annotations

import pytest

from decision_service.core.event import EMPTY_LOG, KINDS, Event, grain_of, read_header, words_of
from decision_service.core.links import (
    LINK_GRAINS,
    customer_key,
    entity_digest,
    entity_header,
    ip_key,
    link_record,
    network_of,
)
from decision_service.core.retention import trim


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2::9", "2001:db8:1::/48"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("fe80::1%eth0", "fe80::/48"),
    ],
)
def test_an_address_is_reduced_to_its_network(address: str, network: str) -> None:
    """An IPv4 address, mapped or not, counts as its /24, an IPv6 address as its /48."""
    assert network_of(address) == network


def test_addresses_of_one_network_are_one_entity_and_others_are_not() -> None:
    """Two addresses share a log exactly when they share a network."""
    assert entity_digest("ip", "203.0.113.1") == entity_digest("ip", "203.0.113.254")
    assert entity_digest("ip", "203.0.113.1") != entity_digest("ip", "203.0.114.1")
    assert ip_key("203.0.113.1") == ip_key("203.0.113.254") != ip_key("203.0.114.1")


def test_equal_ids_of_two_grains_are_two_entities() -> None:
    """A device and a payee with the same id have different logs."""
    assert entity_digest("device", "x") != entity_digest("payee", "x")
    assert len(entity_digest("device", "x")) == 16


def test_what_is_no_address_or_no_grain_is_refused() -> None:
    """A malformed address and an unknown grain are errors, never an entity of their own."""
    with pytest.raises(ValueError, match="does not appear to be"):
        network_of("10.0.0")
    with pytest.raises(ValueError, match="not one of device, payee, ip"):
        entity_digest("customer", "c-1")


def test_a_link_record_has_the_customer_in_word_6_and_nothing_else_changed() -> None:
    """All but word 6 of a record enters the entity's log as it is."""
    record = Event(7, KINDS["drawdown"], 1, 1_000, 500, facility=3, device=4, counterparty=9).pack()
    before = words_of(EMPTY_LOG + record)[1]
    after = words_of(entity_header("payee") + link_record(record, customer_key("c-1")))[1]
    assert int(after.view("u8")[6]) == customer_key("c-1")
    assert [i for i in range(8) if before[i] != after[i]] == [6]


def test_a_trimmed_entity_log_stays_the_log_of_its_grain() -> None:
    """Trimming keeps the grain in the header and says what was forgotten."""
    records = [link_record(Event(k, KINDS["drawdown"], 1, 1_000 + k).pack(), 5) for k in range(1, 9)]
    for index, grain in enumerate(LINK_GRAINS):
        log = trim(entity_header(grain) + b"".join(records), 1, 2_000, 10**9, 8, 2)
        assert log is not None
        assert (grain_of(log), read_header(log)) == (1 + index, (3, 1_003))
