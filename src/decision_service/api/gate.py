"""The gate: the outermost ASGI application, through which every request passes.

    who calls -> rate limit -> admission -> POST /v1/decisions straight to its handler
                                         -> everything else to FastAPI
    and back: one count by route and status

A decision costs microseconds where FastAPI's routing and middleware cost a hundred; so the one hot call is
recognised here, and nearly always before it: what is plainly one whole request for a decision comes from its
connection past ASGI as well (`direct`, `answer_draw`). Paths are matched as they were sent, still percent-encoded: an
id may contain `%2F`, and is decoded strictly by its handler.

A request is as old as its bytes: the connection says when they came (`came` in the scope), who called on it before
(`caller`) and whether admission was asked already (`screened`).

The gate also owns the lifespan: it opens the worker's desk at start-up and closes it after the last request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from time import perf_counter
from typing import Any, Final, Protocol

from uvicorn.protocols.http.flow_control import FlowControl

from decision_service.admission import Admission, Rank
from decision_service.api.access import Access
from decision_service.api.app import check_scope, create_app, internal_reply, log_crash, problem_reply, run
from decision_service.api.call import Call, Receive, Reply, check_media
from decision_service.api.connections import Connections
from decision_service.api.direct import Answers, Head, HeadReader
from decision_service.api.handlers import Desk, answer_to
from decision_service.api.intake import BODILESS, Intake, check_room
from decision_service.api.keys import SCOPES, Principal
from decision_service.api.rate import RateLimit
from decision_service.api.refusals import BodyTooLarge, ClientGone, NotReady, RateLimited
from decision_service.api.routes import DECIDE_PATH, OPEN_PATHS, OPEN_PREFIX, ROUTES
from decision_service.api.shedding import Caller, Shedding, rank_of
from decision_service.core.errors import DecisionServiceError, Draining
from decision_service.settings import Settings
from decision_service.telemetry import Meters

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]
DECIDE: Final = next(r for r in ROUTES if r.path == DECIDE_PATH and r.method == "POST")
DECIDE_LABEL: Final = DECIDE.label
ANYBODY: Final = Principal("anybody", frozenset())
DRAINING: Final = Draining("shutting down: ask another worker")


class Drawing(Protocol):
    """A connection whose request is answered the direct way."""

    caller: Caller
    flow: FlowControl

    def answer(self, reply: Reply, more: Headers) -> None:
        """Write the answer."""

    def drawn(self, answered: bool) -> None:
        """It is over."""


class Gate:
    """One worker's ASGI application."""

    def __init__(
        self,
        settings: Settings,
        access: Access,
        meters: Meters,
        open_desk: Callable[[], AbstractAsyncContextManager[Desk]],
    ) -> None:
        """`open_desk` is entered at start-up; `startup_error` keeps what it raised."""
        self.startup_error: BaseException | None = None
        self.settings = settings
        self._access = access
        self._meters = meters
        self._open_desk = open_desk
        self._desk: Desk | None = None
        self._app = create_app()
        self.admission = Admission(settings.deadline_ms_default / 1000, settings.requests_in_flight_max)
        self.shedding = Shedding(self.admission, meters, DECIDE_LABEL)
        self.heads = HeadReader(settings.header_bytes_max, settings.headers_max)
        self.answers = Answers()
        self.connections = Connections(settings.connections_max, settings.connections_per_address_max)
        limited = settings.rate_limit_per_s > 0 and access.authenticated
        self._rate = RateLimit(settings.rate_limit_per_s, settings.rate_limit_burst) if limited else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    @property
    def desk(self) -> Desk | None:
        """The running worker's desk, None outside the lifespan."""
        return self._desk

    def _running_desk(self) -> Desk:
        if self._desk is None:
            raise NotReady(["starting"])
        return self._desk

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("came", perf_counter())
        self.admission.arrive()
        self._meters.move_in_flight(1)
        try:
            if scope.get("raw_path"):
                scope["path"] = scope["raw_path"].decode("latin-1")
            path = scope["path"]
            if path == DECIDE_PATH and scope["method"] == "POST":
                await self._decide(scope, receive, send)
            else:
                await self._other(scope, receive, send)
        except ClientGone:
            pass
        finally:
            self.admission.leave()
            self._meters.move_in_flight(-1)

    async def _decide(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        more: Headers = ()
        try:
            principal, more = await self._admit(scope, headers)
            reply = await self._decide_for(principal, headers, scope, receive)
        except DecisionServiceError as error:
            reply = problem_reply(error)
        except asyncio.CancelledError:  # by the server, whose time to end is over
            reply = problem_reply(DRAINING)
        self._meters.count_request(DECIDE_LABEL, reply.status)
        await _send_reply(send, reply, more)

    async def _decide_for(
        self, principal: Principal, headers: dict[bytes, bytes], scope: Scope, receive: Receive
    ) -> Reply:
        desk = self._running_desk()
        intake = Intake(self.admission, self._meters, scope, receive, Rank.DRAW, principal.name)
        try:
            return await run(DECIDE, desk, Call(principal, headers, intake.receive, scope))
        finally:
            intake.end()

    async def answer_draw(
        self, connection: Drawing, head: Head, peer: str | None, body: bytes, came: float, screened: bool
    ) -> None:
        """A decision of a request that came the direct way; the same steps in the same order as `_http` and `_decide`
        make of one that comes by ASGI."""
        admission, meters = self.admission, self._meters
        admission.arrive()
        meters.move_in_flight(1)
        more: Headers = ()
        answered = False
        try:
            try:
                headers = head.headers
                principal = self._access.known(headers, peer)
                if principal is None:
                    principal = await self._access.principal(headers, peer)
                name = connection.caller.name = principal.name
                if self._rate is not None:
                    more = self._rated(principal)
                desk = self._desk or self._running_desk()
                check_scope(DECIDE, principal)
                if not head.checked:
                    check_media(headers)
                    head.checked = True
                if len(body) > self.settings.decision_body_bytes_max:
                    raise BodyTooLarge(self.settings.decision_body_bytes_max)
                check_room(admission, meters, name, body, came, screened)
                admission.begin(Rank.DRAW, name)
                try:
                    reply = await answer_to(desk, principal, headers, body, came)
                finally:
                    admission.end(Rank.DRAW, name)
            except DecisionServiceError as error:
                reply = problem_reply(error)
            except asyncio.CancelledError:  # by the server, whose time to end is over
                reply = problem_reply(DRAINING)
            except Exception as error:
                log_crash(error)
                reply = internal_reply()
            meters.count_request(DECIDE_LABEL, reply.status)
            if connection.flow.write_paused:
                await connection.flow.drain()
            connection.answer(reply, more)
            answered = True
        finally:
            admission.leave()
            meters.move_in_flight(-1)
            connection.drawn(answered)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        rank = rank_of(scope["method"], path)
        more: Headers = ()
        intake: Intake | None = None
        try:
            principal = ANYBODY
            if path not in OPEN_PATHS and not path.startswith(OPEN_PREFIX):
                principal, more = await self._admit(scope, dict(scope["headers"]))
            scope["desk"] = self._running_desk()
            if rank is not None:
                intake = Intake(self.admission, self._meters, scope, receive, rank, principal.name)
                if scope["method"] in BODILESS:
                    await intake.begin_behind()
        except DecisionServiceError as error:
            reply = problem_reply(error)
            self._meters.count_request("other", reply.status)
            await _send_reply(send, reply, more)
            return
        scope["principal"] = principal
        try:
            await self._run_app(scope, receive if intake is None else intake.receive, send, more)
        finally:
            if intake is not None:
                intake.end()

    async def _run_app(self, scope: Scope, receive: Receive, send: Send, more: Headers) -> None:
        status, started = 500, False

        async def counting_send(message: MutableMapping[str, Any]) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        try:
            await self._app(scope, receive, counting_send)
        except ClientGone:
            raise
        except asyncio.CancelledError:  # by the server, whose time to end is over
            if not started:
                await _send_reply(send, problem_reply(DRAINING), more)
        except Exception as error:
            log_crash(error)
            if not started:
                await _send_reply(send, internal_reply(), more)
        finally:
            self._meters.count_request(scope.get("route_label", "other"), status)

    async def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[Principal, Headers]:
        """Who calls, and the rate-limit headers of the answer. Raises what refuses the call."""
        client = scope.get("client")
        principal = await self._access.principal(headers, client[0] if client else None)
        if "caller" in scope:
            scope["caller"].name = principal.name
        return principal, self._rated(principal)

    def _rated(self, principal: Principal) -> Headers:
        """The rate-limit headers of the answer. Raises RateLimited."""
        if self._rate is None:
            return ()
        let_in, left, seconds = self._rate.take(principal.name, perf_counter())
        if not let_in:
            self._meters.count_rate_limited()
            raise RateLimited(seconds)
        return (
            (b"ratelimit-limit", str(self._rate.burst).encode()),
            (b"ratelimit-remaining", str(left).encode()),
            (b"ratelimit-reset", str(seconds).encode()),
        )

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self._open_desk() as desk:
                desk.admission = self.admission
                self._desk = desk
                await send({"type": "lifespan.startup.complete"})
                await receive()
                self._desk = None
        except DecisionServiceError as error:
            self.startup_error = error
            await send({"type": "lifespan.startup.failed", "message": error.code})
        except Exception as error:
            self.startup_error = error
            log_crash(error)
            await send({"type": "lifespan.startup.failed", "message": type(error).__name__})
        else:
            await send({"type": "lifespan.shutdown.complete"})


async def _send_reply(send: Send, reply: Reply, more: Headers) -> None:
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", str(len(reply.body)).encode()),
        *reply.headers,
        *more,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


assert set(SCOPES) >= {r.scope for r in ROUTES if r.scope is not None}
