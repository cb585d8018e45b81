"""Where a customer's keys lie: always together, whatever the id."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from decision_service.core.limits import PARTITIONS, PARTITIONS_MAX
from decision_service.core.links import LINK_GRAINS, log_name
from decision_service.store import keys

ids = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=128)


@pytest.mark.fault("C07")
@given(ids, ids, st.sampled_from([1, 7, PARTITIONS, PARTITIONS_MAX]))
def test_keys_of_a_customer_share_a_slot(customer_id: str, request_id: str, partitions: int) -> None:
    """Meta, log, decision and outbox of one customer hash to one cluster slot, which `slot_of` knows."""
    partition = keys.partition_of(customer_id, partitions)
    decision_id = keys.decision_id_of(customer_id, request_id, partitions)
    all_keys = [
        keys.meta_key(partition, customer_id),
        keys.log_key(partition, customer_id),
        keys.decision_key(partition, decision_id),
        keys.outbox_key(partition),
        keys.waiting_key(partition),
    ]
    assert len({key_slot(key) for key in all_keys}) == 1
    assert {keys.slot_of(key) for key in all_keys} == {key_slot(all_keys[0])}


@given(ids, st.sampled_from([1, PARTITIONS]))
def test_keys_of_a_facility_lie_in_its_own_partition(facility_id: str, partitions: int) -> None:
    """Who owns a facility is found from the facility's id alone."""
    key = keys.owner_key(facility_id, partitions)
    assert key_slot(key) == key_slot(keys.outbox_key(keys.partition_of(facility_id, partitions)))


@given(ids, st.sampled_from(["device", "payee"]), st.sampled_from([1, PARTITIONS]))
def test_keys_of_an_entity_lie_in_its_own_partition(entity_id: str, grain: str, partitions: int) -> None:
    """An entity's log is found from its name alone, in one slot with the rest of that partition."""
    name = log_name(grain, entity_id)
    partition = keys.partition_of_entity(name, partitions)
    assert key_slot(keys.entity_key(name, partitions)) == key_slot(keys.waiting_key(partition))


def test_keys_of_grains_differ() -> None:
    """A device, a payee and a network of one name are three entities."""
    found = {keys.entity_key(log_name(grain, "10.0.0.1"), PARTITIONS) for grain in LINK_GRAINS}
    assert len(found) == len(LINK_GRAINS)


@given(ids, ids, ids, ids)
@pytest.mark.fault("E12")
def test_keys_of_two_customers_differ(one: str, other: str, request: str, again: str) -> None:
    """Different customers or requests never share a decision id, equal ones always do."""
    same = (one, request) == (other, again)
    ids_equal = keys.decision_id_of(one, request, 256) == keys.decision_id_of(other, again, 256)
    assert ids_equal == same


@given(ids, ids)
def test_keys_decision_id_names_its_partition(customer_id: str, request_id: str) -> None:
    """A decision is found by its id alone."""
    decision_id = keys.decision_id_of(customer_id, request_id, PARTITIONS)
    assert keys.partition_of_decision(decision_id) == keys.partition_of(customer_id, PARTITIONS)


def test_keys_never_change() -> None:
    """Keys and ids are what they were when the first store was written; a change would lose every customer."""
    assert keys.decision_id_of("c-1001", "dd-20261121-000017", 256) == "d07fa191cd2ab1d9fa83ba7cc12997cb95b7"
    assert keys.meta_key(66, "c}{") == b"ds:{p0066}:m:c}{"
    assert keys.log_key(66, "c}{") == b"ds:{p0066}:l:c}{"
    assert keys.decision_key(66, "d042") == b"ds:{p0066}:d:d042"
    assert keys.outbox_key(66) == b"ds:{p0066}:out"
    assert keys.owner_key("f-1001", 256) == b"ds:{p0204}:o:f-1001"
    assert keys.waiting_key(66) == b"ds:{p0066}:w"
    assert keys.entity_key(log_name("payee", "m-310"), 256) == b"ds:{p0235}:e:p:3d0118c7d07c4af7cb8c16a6270725c4"


@pytest.mark.parametrize("text", ["", "d", "d" + "g" * 35, "D" + "0" * 35, "d" + "0" * 36, "d" + "0" * 34 + "\n"])
def test_keys_malformed_decision_id_has_no_partition(text: str) -> None:
    """What is no decision id names no partition."""
    assert keys.partition_of_decision(text) is None
