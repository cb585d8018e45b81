"""How facilities and attributes are written: compact JSON arrays in the order of the record's fields.

    facility   ["f-1","c-1","revolver","CNY",500000,120000,1764000000000,1800,"active",1700000000000,...]
    attribute  [2.0,1764000000000]

They read back exactly as they were written (integers stay integers, floats keep every bit). Fields are only
ever added at the end and with a default, so that an old value reads under new code.
"""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import orjson

from decision_service.core.facility import Attribute, Facility

_facility_fields: Final[Any] = attrgetter(*(f.name for f in fields(Facility)))
_CACHED_MAX: Final = 8_192  # decoded values kept of each sort; they rarely change between two reads


def encode_facility(facility: Facility) -> bytes:
    """The facility as stored."""
    return orjson.dumps(_facility_fields(facility))


@lru_cache(maxsize=_CACHED_MAX)
def decode_facility(stored: bytes) -> Facility:
    """The inverse of `encode_facility`."""
    return Facility(*orjson.loads(stored))


def encode_attribute(attribute: Attribute) -> bytes:
    """The attribute as stored. Raises ValueError for NaN and infinities, which JSON cannot hold."""
    value = attribute.value
    if not isinstance(value, str) and value - value != 0:
        raise ValueError(f"an attribute must be finite, not {value}")
    return orjson.dumps((value, attribute.as_of_ms))


@lru_cache(maxsize=_CACHED_MAX)
def decode_attribute(stored: bytes) -> Attribute:
    """The inverse of `encode_attribute`."""
    return Attribute(*orjson.loads(stored))
