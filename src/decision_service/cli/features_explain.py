"""`decision-service features explain CUSTOMER NAME`: a feature's value, and the events and parts that make it up.

It asks a running service (`--url`), or reads the store as `serve` would open it, or a file of events (`--events`).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import orjson

from decision_service.api.instants import parse_instant
from decision_service.bootstrap import store_of, wall_clock_ms
from decision_service.cli.policy_options import add_policy_options, policy_of, settings_of
from decision_service.core.errors import InvalidInput, NotFound
from decision_service.core.facility import Facility
from decision_service.core.policy import Policy
from decision_service.core.request import DecisionRequest
from decision_service.core.state import CustomerState
from decision_service.customer_features import asked, link_grains, refuse_unknown
from decision_service.dictionary.explained import explain
from decision_service.dictionary.explanation_text import lines_of
from decision_service.feature_question import TEXTS, FeatureQuestion, facility_for, imagined_request, read_question
from decision_service.http_client import Client, ConnectionLost, bearer_in
from decision_service.tables.customer_log import read_customer_log

UNREACHABLE: Final = 7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `features explain`."""
    parser.add_argument("customer", help="the customer's id")
    parser.add_argument("name", help="the feature")
    parser.add_argument("--at", help="an instant such as 2026-11-21T03:12:09+08:00; now by default")
    for name, what in (
        ("facility", "the credit line; the first by default"), ("device-id", "device of the imagined request"),
        ("counterparty-id", "payee of the imagined request"), ("ip", "address of the imagined request"),
        ("amount", "its amount, major units (0)"), ("channel", "its channel"), ("purpose", "its purpose"),
        ("loan-id", "the loan: id of its decision, or of its drawdown event"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", dest="facility_id" if name == "facility" else None, help=what)
    parser.add_argument("--deep", action="store_true", help="explain the features it is made of as well")
    parser.add_argument("--json", action="store_true", help="as JSON, with every event")
    source = parser.add_argument_group("where the events are (the store as `serve` opens it by default)")
    source.add_argument("--url", help="a running service")
    source.add_argument("--bearer-file", type=Path, help="file that holds the API key or token to send")
    source.add_argument("--data-dir", type=Path, help="directory of the embedded store (setting `data_dir`)")
    source.add_argument("--redis-url", help="store (setting `redis_url`)")
    source.add_argument("--events", type=Path, metavar="FILE", help="a Parquet or CSV file of events")
    add_policy_options(source)


def run(args: argparse.Namespace) -> int:
    """Explain; the exit status."""
    try:
        told = asyncio.run(_ask(args)) if args.url is not None else _explained(args)
    except ConnectionLost as error:
        print(f"the service does not answer: {error}", file=sys.stderr)
        return UNREACHABLE
    print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode() if args.json else "\n".join(lines_of(told)))
    return 0


def _texts(args: argparse.Namespace) -> dict[str, str]:
    return {name: getattr(args, name) for name in TEXTS if getattr(args, name) is not None}


async def _ask(args: argparse.Namespace) -> Any:
    """The explanation of a running service."""
    bearer = bearer_in(args.bearer_file)
    query = _texts(args) | ({"at": args.at} if args.at else {}) | ({"deep": "true"} if args.deep else {})
    path = f"/v1/customers/{quote(args.customer, safe='')}/features/{quote(args.name, safe='')}"
    async with Client(args.url, bearer) as client:
        response = await client.call("GET", f"{path}?{urlencode(query)}" if query else path)
    if response.status == 200:
        return response.json()
    problem = response.json() or {}
    detail = str(problem.get("detail", response.status))
    if response.status == 422:
        raise InvalidInput(str(problem.get("field", "")), detail)
    raise NotFound(detail)


def _explained(args: argparse.Namespace) -> dict[str, Any]:
    """The explanation from a store or a file, by the policy on disk."""
    settings = settings_of(args)
    policy, _ = policy_of(settings)
    refuse_unknown(policy, args.name)
    question = read_question(args.customer, _instant(args.at), _texts(args))
    t_ms = wall_clock_ms() if question.at_ms is None else question.at_ms
    if args.events is not None:
        return _explained_from_file(args, policy, question, t_ms)
    store = store_of(settings)

    async def read() -> tuple[CustomerState, Facility, DecisionRequest]:
        try:
            return await asked(store, policy, question, [args.name], t_ms)
        finally:
            await store.close()

    state, facility, request = asyncio.run(read())
    return explain(policy, state, facility, request, args.name, deep=args.deep)


def _explained_from_file(
    args: argparse.Namespace, policy: Policy, question: FeatureQuestion, t_ms: int
) -> dict[str, Any]:
    """The explanation from a file of events: nobody's facility is known, so the line is one of nothing."""
    named = {"device": question.device_id, "payee": question.counterparty_id, "ip": question.ip}
    wanted = {grain: named[grain] for grain in link_grains(policy, [args.name])}
    entities = {grain: entity for grain, entity in wanted.items() if entity is not None}
    read = read_customer_log(args.events, args.customer, entities, wall_clock_ms(), question.at_ms)
    if read.bad_rows:
        print(f"{read.bad_rows:,} rows of {args.events} were left out: they are no events", file=sys.stderr)
    if not read.events:
        raise NotFound(f"no events of customer {args.customer!r} in {args.events}")
    state = CustomerState(1, read.log, links=read.links)
    facility = facility_for(question.customer_id, state, None, t_ms)
    if question.facility_id is not None:
        facility = replace(facility, facility_id=question.facility_id)
    request = imagined_request(question, facility, t_ms)
    return explain(policy, state, facility, request, args.name, deep=args.deep, texts=read.texts)


def _instant(text: str | None) -> int | None:
    try:
        return None if text is None else parse_instant(text)
    except ValueError as error:
        raise InvalidInput("at", str(error)) from None
