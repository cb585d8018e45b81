"""Facilities and attributes read back exactly as they were written."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_cases import facility

from decision_service.core.facility import Attribute, Facility
from decision_service.store.records import (
    decode_attribute,
    decode_facility,
    encode_attribute,
    encode_facility,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=130)
whole = st.integers(-(2**62), 2**62)


@given(
    st.builds(
        Facility, texts, texts, texts, texts, whole, whole, whole, whole, texts, whole,
        *[st.none() | whole] * 5,
    )
)  # fmt: skip
def test_records_facility_reads_back(line: Facility) -> None:
    """Every field of a facility survives, null and 0 apart, integers as integers."""
    read = decode_facility(encode_facility(line))
    assert read == line
    assert [type(getattr(read, f.name)) for f in fields(line)] == [type(getattr(line, f.name)) for f in fields(line)]


@given(st.floats(allow_nan=False, allow_infinity=False) | texts, whole)
def test_records_attribute_reads_back(value: float | str, as_of_ms: int) -> None:
    """Every bit of a number and every character of a text survives."""
    read = decode_attribute(encode_attribute(Attribute(value, as_of_ms)))
    assert (read, repr(read.value)) == (Attribute(value, as_of_ms), repr(value))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_records_attribute_is_finite(value: float) -> None:
    """A number that JSON cannot hold is refused and never becomes null."""
    with pytest.raises(ValueError, match="finite"):
        encode_attribute(Attribute(value, 1))


def test_records_old_facility_reads_under_new_code() -> None:
    """A stored facility that lacks fields added since reads with their defaults."""
    stored = b'["f-1","c-1","revolver","CNY",1000000,1,2,1800,"active",3]'
    assert decode_facility(stored) == facility()
