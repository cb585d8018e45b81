"""The policy in force in this worker: what decisions read, and why it is not a newer one.

    policy     compiled, with the lists as the store has them; switched between two requests, never changed
    content    the files and scorecards it was compiled from
    bundle     the number under which the fleet knows it; 0 while it is not published
    problem    why this worker does not run what its disk holds, or what the fleet runs; or why what is in force
               should not be

A policy's description and everything it was made of (`sources.py`) are kept in the store before it is switched to, so
a decision can be explained and made again for as long as it is kept. A store that is away must not stop a switch: both
are then owed, and `catch_up` brings them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import orjson

from decision_service.core.errors import DecisionServiceError, Draining, NotFound, PolicyRejected, StoreError
from decision_service.core.policy import Policy
from decision_service.core.source import Diagnostic
from decision_service.policies.bundle import Content
from decision_service.policies.source import Candidate
from decision_service.policies.sources import PolicySources
from decision_service.store import Store

LOG = logging.getLogger("decision_service.policy")
STORE_TIMEOUT_S: Final = 2.0
SAME_AS: Final = "same_as"  # key of what is kept for a policy that differs in its lists alone
DISK: Final = "disk"
FLEET: Final = "fleet"
SCORES: Final = "scores"


PLACES_LOGGED_MAX: Final = 8


def _in_a_log_line(error: DecisionServiceError) -> str:
    """What is wrong, without the text of the files, which may name customers: `GET /v1/policy` shows that."""
    if not isinstance(error, PolicyRejected):
        return error.message
    places = [f"{d.place.file}:{d.place.line}:{d.place.column}" for d in error.diagnostics]
    more = ", ..." if len(places) > PLACES_LOGGED_MAX else ""
    return f"{len(places)} findings at {', '.join(places[:PLACES_LOGGED_MAX])}{more}; GET /v1/policy shows them"


class PolicyInForce:
    """The policy in force, its lists, and what is wrong with those that would replace it."""

    def __init__(
        self, store: Store, on_change: Callable[[str, str, bool], None], sources: PolicySources | None = None
    ) -> None:
        """`on_change(policy_id, label, ok)` is told of every activation and every refusal. Without `sources` only
        descriptions are kept."""
        self._store = store
        self._sources = sources
        self._made_of: dict[bytes, Content] = {}  # of the policies taken last, by `Policy.content`
        self._on_change = on_change
        self._lists_version = -1
        self._description_owed = False
        self._described = ""  # id, without lists, of the policy that was described last
        self.problems = {DISK: "", FLEET: "", SCORES: ""}
        self.rollback: dict[str, Any] | None = None  # why the fleet was led back to what is in force, if it was
        self.diagnostics: tuple[Diagnostic, ...] = ()
        self.warnings: tuple[Diagnostic, ...] = ()
        self.policy: Policy | None = None
        self.content: Content | None = None
        self.bundle = 0

    @property
    def current(self) -> Policy:
        """The policy in force. Draining while none is loaded: this worker is not (yet) able to decide."""
        if self.policy is None:
            raise Draining("no policy is loaded yet")
        return self.policy

    @property
    def problem(self) -> str:
        """Why this worker does not run what its disk holds, or what the fleet runs, or should not; empty if all is
        well."""
        return self.problems[DISK] or self.problems[FLEET] or self.problems[SCORES]

    def runs(self, digest: str) -> bool:
        """Whether the content in force is the one of this digest."""
        return self.content is not None and self.content.digest == digest

    async def take(self, candidate: Candidate, number: int) -> None:
        """Switch to a candidate that is published under a number (0: not yet). What is told of the policy in force
        (number, content, warnings) moves with it, not before."""

        def taken() -> None:
            self.warnings = tuple(candidate.findings.diagnostics)
            self.content, self.bundle = candidate.content, number
            self.problems[SCORES] = ""
            if number:
                self.problems[FLEET] = ""

        self._made_of = {**dict(list(self._made_of.items())[-1:]), candidate.policy.content: candidate.content}
        await self._switch(lambda: self.with_lists(candidate.policy), taken)

    def refuse(self, source: str, error: DecisionServiceError, what: str = "") -> None:
        """Keep the policy in force and say why."""
        self.diagnostics = error.diagnostics if isinstance(error, PolicyRejected) else ()
        self.problems[source] = what + error.message
        LOG.warning("policy not taken from the %s, %s stays: %s%s",
                    source, self.policy and self.policy.id, what, _in_a_log_line(error))  # fmt: skip
        self._on_change("", "", False)

    def cannot_stay(self, source: str, what: str) -> None:
        """Say why the policy in force should not be, though there is no other."""
        self.problems[source] = what
        LOG.error("policy %s stays in force: %s", self.policy and self.policy.id, what)

    def disk_is_fine(self) -> None:
        """What is on disk compiles, or is in force already."""
        self.problems[DISK], self.diagnostics = "", ()

    def all_is_fine(self) -> None:
        """Somebody has just put a policy in force."""
        self.problems = dict.fromkeys(self.problems, "")
        self.diagnostics = ()

    def with_lists(self, policy: Policy) -> Policy:
        """A candidate with the lists in force."""
        return policy if self.policy is None else policy.with_lists(self.policy.lists)

    async def follow_lists(self) -> None:
        """Take over lists that have moved. StoreError."""
        version, lists = await self._store.read_lists(self._lists_version, STORE_TIMEOUT_S)
        if lists is not None:
            await self._switch(lambda: self.current.with_lists(lists))
        self._lists_version = version

    async def catch_up(self) -> None:
        """Keep the description that could not be kept before. StoreError."""
        if self._description_owed:
            await self._save_description(self.current)

    def describe_again(self) -> None:
        """The store has forgotten what it kept."""
        self._described, self._description_owed = "", True
        if self._sources is not None:
            self._sources.forget()

    async def _switch(self, wanted: Callable[[], Policy], taken: Callable[[], None] = lambda: None) -> None:
        """Keep the policy's description, then switch to it: a decision can always be explained. `wanted` is asked again
        after every wait: lists and files may move at the same time, and neither must bring the other's past back.
        `taken` is called with the switch."""
        policy = wanted()
        described = None
        while policy.id != described:
            if self.policy is not None and policy.id == self.policy.id:
                taken()
                return
            self._description_owed = True
            with suppress(StoreError):  # a store that is away must not stop a reload; `catch_up` brings it later
                await self._save_description(policy)
            described, policy = policy.id, wanted()
        self.policy = policy
        taken()
        LOG.info("policy %s (%s) is active", policy.id, policy.label)
        self._on_change(policy.id, policy.label, True)

    async def _save_description(self, policy: Policy) -> None:
        """Keep what a policy is under its id. A change of a list gives a further id and nothing else to describe: under
        that the store keeps only where the description is, for lists change thousands of times a day."""
        plain = policy.with_lists({})
        if self._described != plain.id:
            await self._store.save_policy(plain.id, orjson.dumps(plain.describe()), STORE_TIMEOUT_S)
            self._described = plain.id
        if policy.id != plain.id:
            await self._store.save_policy(policy.id, orjson.dumps({SAME_AS: plain.id}), STORE_TIMEOUT_S)
        content = self._made_of.get(policy.content)
        if self._sources is not None and content is not None:
            await self._sources.save(policy, content)
        self._description_owed = False

    async def description(self, policy_id: str) -> dict[str, Any]:
        """What a policy was, by its id."""
        if self.policy is not None and self.policy.id == policy_id:
            return self.policy.describe()
        description = await self._kept(policy_id)
        if SAME_AS in description:
            description = {**await self._kept(description[SAME_AS]), "id": policy_id}
        return description

    async def _kept(self, policy_id: str) -> dict[str, Any]:
        document = await self._store.read_policy(policy_id, STORE_TIMEOUT_S)
        if document is None:
            raise NotFound(f"no description of policy {policy_id!r} is kept")
        description: dict[str, Any] = orjson.loads(document)
        return description
