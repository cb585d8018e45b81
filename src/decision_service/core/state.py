"""What a decision sees of a customer: one consistent read of the store."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from decision_service.core.event import EMPTY_LOG
from decision_service.core.facility import Attribute, Facility
from decision_service.core.links import NO_LINKS, Links


class CustomerState(NamedTuple):
    """One customer under one version. A customer never heard of has version 0 and an empty log."""

    version: int = 0
    log: bytes = EMPTY_LOG
    facilities: Mapping[str, Facility] = MappingProxyType({})
    attributes: Mapping[str, Attribute] = MappingProxyType({})
    decision: bytes | None = None  # the frame stored under the decision_id asked for, if any
    links: Links = NO_LINKS  # logs of the entities that the request names

    def with_links(self, links: Links) -> CustomerState:
        """The same customer beside these logs."""
        return CustomerState(self.version, self.log, self.facilities, self.attributes, self.decision, links)
