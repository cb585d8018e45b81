"""FastAPI: routing, the OpenAPI document and the docs page, all made from the table of routes.

Handlers check their bodies themselves (`parse`), so FastAPI sees requests without parameters and its own
validation never runs; the document describes the bodies all the same. The docs page works offline: its assets
come from the installed `fastapi-offline` package.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib.resources import files
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.routing import compile_path
from starlette.staticfiles import StaticFiles

import decision_service
from decision_service.api import answers
from decision_service.api.call import Call, Reply
from decision_service.api.handlers import Desk
from decision_service.api.keys import Principal
from decision_service.api.problems import TABLE, internal_problem, problem_of
from decision_service.api.refusals import ClientGone, Forbidden, MethodNotAllowed, RouteUnknown
from decision_service.api.routes import ABOUT_CUSTOMERS, DECIDE_PATH, ROUTES, Examples, Route
from decision_service.core.errors import DecisionServiceError
from decision_service.core.limits import ID_CHARS_MAX
from decision_service.telemetry.logs import places_of

LOG = logging.getLogger("decision_service.api")
SCHEMAS: Final = "#/components/schemas/"
PATH_ID: Final = {"type": "string", "minLength": 1, "maxLength": ID_CHARS_MAX, "pattern": r"^[^\x00]+$"}
_PATTERNS: Final = tuple((route.method, compile_path(route.path)[0]) for route in ROUTES)
_REPLAYED: Final = {"description": "`true` on a repeat of a request_id.", "schema": {"type": "string"}}


async def run(route: Route, desk: Desk, call: Call) -> Reply:
    """A call from scope check to reply; errors become problems here. Raises ClientGone."""
    try:
        check_scope(route, call.principal)
        return await route.handler(desk, call)
    except DecisionServiceError as error:
        return problem_reply(error)
    except ClientGone:
        raise
    except Exception as error:
        log_crash(error)
        return internal_reply()


def check_scope(route: Route, principal: Principal) -> None:
    """Raise Forbidden for a principal who may not make a call."""
    if route.scope is not None and not principal.may(route.scope):
        raise Forbidden(f"the scope {route.scope!r} is needed")
    if principal.limited and route.scope is not None and route.tag not in ABOUT_CUSTOMERS:
        raise Forbidden("these credentials are for calls about certain customers only")


def problem_reply(error: DecisionServiceError) -> Reply:
    """The reply that tells of an error."""
    status, body, headers = problem_of(error)
    if status == 500:
        log_crash(error)
    return Reply(status, body, tuple(headers[1:]), headers[0][1])


def internal_reply() -> Reply:
    """The reply to a programmer's error, which says nothing of it."""
    status, body, headers = internal_problem()
    return Reply(status, body, tuple(headers[1:]), headers[0][1])


def log_crash(error: BaseException) -> None:
    """Log what crashed and where. Never the message: it may quote what a customer sent."""
    LOG.error("crashed: %s", places_of(error))


@cache
def create_app() -> FastAPI:
    """The FastAPI application; the gate puts desk and principal into each request's scope."""
    app = FastAPI(
        title="decision-service", version=_version(), docs_url=None, redoc_url=None, openapi_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    for route in ROUTES:
        app.add_api_route(
            route.path, _endpoint(route), methods=[route.method], name=route.handler.__name__,
            summary=route.summary, tags=[route.tag], response_model=None, responses=_responses(route),
            openapi_extra=_operation(route),
        )  # fmt: skip
    app.mount("/docs/assets", StaticFiles(directory=str(files("fastapi_offline") / "static")))
    app.add_api_route("/docs", _docs, include_in_schema=False)
    app.add_api_route("/openapi.json", _openapi, include_in_schema=False)
    app.add_exception_handler(HTTPException, _unmatched)
    app.openapi = lambda: openapi_of(app)  # type: ignore[method-assign]
    return app


def _endpoint(route: Route) -> Any:
    async def endpoint(request: Request) -> Response:
        scope = request.scope
        scope["route_label"] = route.label
        principal: Principal = scope["principal"]
        call = Call(
            principal, dict(scope["headers"]), request.receive, scope, request.path_params, scope["query_string"],
        )  # fmt: skip
        reply = await run(route, scope["desk"], call)
        response = Response(reply.body, reply.status, media_type=reply.content_type.decode())
        for name, value in reply.headers:
            response.headers[name.decode()] = value.decode()
        return response

    return endpoint


async def _docs(request: Request) -> HTMLResponse:
    request.scope["route_label"] = "GET /docs"
    return get_swagger_ui_html(
        openapi_url="/openapi.json", title="decision-service",
        swagger_js_url="/docs/assets/swagger-ui-bundle.js", swagger_css_url="/docs/assets/swagger-ui.css",
        swagger_favicon_url="/docs/assets/favicon.png",
    )  # fmt: skip


async def _openapi(request: Request) -> Response:
    """The document, rendered once: anybody may ask for it, so it must not cost anything."""
    request.scope["route_label"] = "GET /openapi.json"
    state = request.app.state
    if not hasattr(state, "openapi_bytes"):
        state.openapi_bytes = orjson.dumps(openapi_of(request.app))
    return Response(state.openapi_bytes, media_type="application/json")


async def _unmatched(request: Request, error: Exception) -> Response:
    """404 and 405 of the router as problems."""
    path = request.scope["path"]
    exact = [route.method for route in ROUTES if route.path == path]  # wins over a template that matches as well
    allowed = sorted(exact or (method for method, pattern in _PATTERNS if pattern.match(path)))
    if not allowed and isinstance(error, HTTPException) and error.status_code == 405:
        allowed = ["GET"]  # the docs and their assets
    status, body, headers = problem_of(
        MethodNotAllowed(allowed) if allowed else RouteUnknown("nothing lives under this path")
    )
    return Response(body, status, {name.decode(): value.decode() for name, value in headers})


# --- the OpenAPI document
# -------------------------------------------------------------------------------------


def openapi_of(app: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, routes=app.routes,
        description="In-loan risk decisions for revolving credit. Errors are RFC 9457 problem documents.",
    )  # fmt: skip
    components = document.setdefault("components", {})
    models = [(route.body, "validation") for route in ROUTES if route.body is not None]
    models += [(answers.Problem, "serialization")]
    _, definitions = models_json_schema(models, ref_template=SCHEMAS + "{model}")  # type: ignore[arg-type]
    components.setdefault("schemas", {}).update(definitions["$defs"])
    components["schemas"]["AttributesBody"] |= {"minProperties": 1, "maxProperties": 256}
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key or a JWT."}
    }
    for route in ROUTES:  # FastAPI would leave the nulls of an example out
        if route.answer_example is not None:
            answer = document["paths"][route.path][route.method.lower()]["responses"]["200"]
            answer["content"]["application/json"]["example"] = route.answer_example
    app.openapi_schema = document
    return document


def _operation(route: Route) -> dict[str, Any]:
    names = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": dict(PATH_ID)} for name in names
    ]
    parameters += [
        {"name": q.name, "in": "query", "required": False, "schema": q.schema, "description": q.description}
        for q in route.query
    ]
    operation: dict[str, Any] = {"parameters": parameters} if parameters else {}
    if route.scope is not None:
        operation["security"] = [{}, {"bearer": []}]
        operation["description"] = f"Needs the scope `{route.scope}`."
    if route.body is not None:
        content: dict[str, Any] = {"schema": {"$ref": SCHEMAS + route.body.__name__}}
        if isinstance(route.example, Examples):
            content["examples"] = {name: {"value": example} for name, example in route.example.items()}
        elif route.example is not None:
            content["example"] = route.example
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    return operation


def _responses(route: Route) -> dict[int | str, dict[str, Any]]:
    titles: dict[int, list[str]] = {}
    for rule in TABLE.values():
        if rule.title not in titles.setdefault(rule.status, []):
            titles[rule.status].append(rule.title)
    problem = {"application/problem+json": {"schema": {"$ref": SCHEMAS + "Problem"}}}
    responses: dict[int | str, dict[str, Any]] = {
        status: {"description": "; ".join(titles[status]), "content": problem} for status in route.problems
    }
    answer: dict[str, Any] = {"description": "Done"}
    if route.answer is None:
        answer["content"] = {route.media: {"schema": {"type": "string"}}}
    else:
        answer["model"] = route.answer
    if route.path == DECIDE_PATH:
        answer["headers"] = {"Idempotency-Replayed": _REPLAYED}
    return {200: answer, **responses}


def _version() -> str:
    return getattr(decision_service, "__version__", "0.1.0")
