"""Suitability: what a server's own words (INFO, CONFIG GET) say that a durability profile does not allow.

    fast         may fsync each second                   safe         must fsync always
    replicated   as safe, and enough replicas must be linked, up to date and needed for every write (`replication.py`)

Whatever the profile: no eviction, an append-only file, a primary that has loaded its data, a version that runs our
scripts. A server that does not tell its configuration is not suitable.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

from decision_service.store import EVICTS
from decision_service.store.lane import pack
from decision_service.store.replication import Replicas
from decision_service.store.replies import ErrorReply

Profile = Literal["fast", "safe", "replicated"]
VERSION_MIN: Final = (7, 0)  # of Redis; Valkey answers as Redis 7.2. Scripts need flags, SET needs NX with GET
WAITAOF_VERSION_MIN: Final = (7, 2)
REPLICA_LAG_MAX_S: Final = 10  # since a replica was last heard of by its primary
ASK_CONFIGURATION: Final = pack(
    ("CONFIG", "GET", "maxmemory-policy", "appendonly", "appendfsync", "min-replicas-to-write")
)


def server_problems(info: bytes, replicas: Replicas | None) -> list[str]:
    """What INFO says that rules a server out."""
    told = dict(line.split(":", 1) for line in info.decode(errors="replace").splitlines() if ":" in line)
    problems = []
    version = tuple(int(n) for n in re.findall(r"\d+", told.get("redis_version", "0.0"))[:2])
    if version < VERSION_MIN:
        needed = ".".join(map(str, VERSION_MIN))
        problems.append(f"version {told.get('redis_version')} is older than {needed}")
    if told.get("role") != "master":
        problems.append("this is a replica: it takes no writes")
    if told.get("loading") == "1":
        problems.append("still loading its data")
    if replicas is None:
        return problems
    if replicas.on_disk and version < WAITAOF_VERSION_MIN:
        problems.append(f"version {told.get('redis_version')} has no WAITAOF, which replicas_on_disk asks for")
    linked = sum(_linked_replica(line) for name, line in told.items() if re.fullmatch(r"slave\d+", name))
    if linked < replicas.number:
        problems.append(f"{linked} replicas are linked and up to date: profile replicated wants {replicas.number}")
    return problems


def _linked_replica(line: str) -> bool:
    """Whether a replica, as INFO describes it, has all data and was heard of lately."""
    told = dict(part.split("=", 1) for part in line.split(",") if "=" in part)
    return told.get("state") == "online" and 0 <= int(told.get("lag", "-1")) <= REPLICA_LAG_MAX_S


def configuration_problems(reply: Any, profile: Profile, replicas: Replicas | None) -> list[str]:
    """What CONFIG says that a durability profile does not allow."""
    if isinstance(reply, ErrorReply):
        return [f"cannot see its configuration: {reply.text[:100]}"]
    pairs = iter(reply)
    told = {name.decode(): value.decode() for name, value in zip(pairs, pairs, strict=True)}
    problems = []
    if told.get("maxmemory-policy") != "noeviction":
        problems.append(f"{EVICTS} is {told.get('maxmemory-policy')}, it would evict: want noeviction")
    if told.get("appendonly") != "yes":
        problems.append("appendonly is off: a restart would lose everything")
    wanted = ("always", "everysec") if profile == "fast" else ("always",)
    if told.get("appendfsync") not in wanted:
        problems.append(f"appendfsync is {told.get('appendfsync')}: profile {profile} wants {' or '.join(wanted)}")
    writing = int(told.get("min-replicas-to-write") or 0)
    if replicas is not None and writing < replicas.number:
        problems.append(
            f"min-replicas-to-write is {writing}: profile replicated wants {replicas.number}, or a primary that was "
            "replaced takes writes that will be lost"
        )
    return problems
