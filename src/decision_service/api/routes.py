"""The table of calls: what each is for, the scope it takes, its bodies, and every status it can answer with.

FastAPI's routes, the OpenAPI document, the metrics' labels and the `Allow` header all come from here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from decision_service.api import (
    answers,
    bodies,
    examples,
    feature_answers,
    handlers,
    policy_handlers,
    search_handlers,
)
from decision_service.api.call import Call, Reply
from decision_service.api.handlers import Desk
from decision_service.archive.search import LIMIT_MAX

Handler = Callable[[Desk, Call], Awaitable[Reply]]
DECIDE_PATH: Final = "/v1/decisions"
ABOUT_CUSTOMERS: Final = ("decisions", "customers")  # tags of the calls that are about a customer, each of them
_ACCESS: Final = (401, 403, 429)
_BODY: Final = (400, 408, 413, 415, 422)
_FAILING: Final = (500, 503)


@dataclass(frozen=True, slots=True)
class Query:
    """One query parameter."""

    name: str
    schema: dict[str, object]
    description: str


class Examples(dict[str, object]):
    """Several example bodies of one call, by name."""


@dataclass(frozen=True, slots=True)
class Route:
    """One call of the contract. `scope` None means that anybody may ask. `problems` are its error
    statuses."""

    method: str
    path: str
    scope: str | None
    handler: Handler
    tag: str
    summary: str
    answer: type[BaseModel] | None
    problems: tuple[int, ...]
    body: type[BaseModel] | None = None
    example: object = None
    answer_example: object = None
    query: tuple[Query, ...] = ()
    media: str = "text/plain"  # of an answer that is no JSON

    @property
    def label(self) -> str:
        """Method and template, as metrics show it."""
        return f"{self.method} {self.path}"


def _reading(*also: int) -> tuple[int, ...]:
    return tuple(sorted({*_ACCESS, *_FAILING, 422, *also}))


def _writing(*also: int) -> tuple[int, ...]:
    return tuple(sorted({*_ACCESS, *_BODY, *_FAILING, *also}))


_ID_SCHEMA: Final[dict[str, object]] = {"type": "string", "minLength": 1, "maxLength": 128}
_QUESTION_QUERY: Final = (
    Query("at", {"type": "string", "format": "date-time"}, "An instant in the past; now by default."),
    Query("facility_id", _ID_SCHEMA, "For features of a facility; the first by default."),
    Query("amount", {"type": "string"}, "Amount of the imagined request, major units; 0 by default."),
    Query("channel", {"type": "string"}, "Channel of the imagined request."),
    Query("device_id", _ID_SCHEMA, "Device of the imagined request."),
    Query("counterparty_id", _ID_SCHEMA, "Payee of the imagined request."),
    Query("purpose", _ID_SCHEMA, "Declared purpose of the imagined request."),
    Query("ip", {"type": "string"}, "Address of the imagined request."),
    Query("loan_id", _ID_SCHEMA, "For features of a loan: the id of its decision, or of its drawdown event."),
)
_FEATURE_QUERY: Final = (
    Query("names", {"type": "string"}, "Comma-separated feature names; all by default."), *_QUESTION_QUERY
)  # fmt: skip
_EXPLAIN_QUERY: Final = (
    *_QUESTION_QUERY,
    Query("deep", {"type": "boolean"}, "Explain the features it is made of as well; false by default."),
)

_FORCE_QUERY: Final = (
    Query(
        "force", {"type": "boolean"},
        "Even if the guard refuses it, or (reload) the fleet has left what is on disk behind; false by default.",
    ),
)  # fmt: skip

_SEARCH_QUERY: Final = (
    Query("customer_id", _ID_SCHEMA, "Of this customer; credentials that reach certain customers only must say which."),
    Query(
        "since", {"type": "string", "format": "date-time"},
        "Recorded at or after this instant. A decision is recorded when the store takes it in: as it is made, but for "
        "static answers, which wait in a journal while the store is away.",
    ),
    Query("until", {"type": "string", "format": "date-time"}, "Recorded before this instant; now by default."),
    Query("outcome", {"type": "string", "enum": list(search_handlers.OUTCOMES)}, "With this `decision`."),
    Query("reason", _ID_SCHEMA, "With this reason code, such as RC11."),
    Query("rule", _ID_SCHEMA, "On which this rule fired or held, by its id."),
    Query("policy", _ID_SCHEMA, "Made by the policy of this id."),
    Query(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": search_handlers.LIMIT_DEFAULT},
        "Decisions of one page at most. A page ends early, even empty, when it has cost about two seconds; it goes on "
        "as long as there is an `after`.",
    ),
    Query("after", {"type": "string"}, "The `after` of the page before."),
)  # fmt: skip

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "POST", DECIDE_PATH, "decide", handlers.decide, "decisions",
        "Decide a drawdown (approve, hold, reprice or limit change), or review a line in another scene",
        answers.DecisionAnswer, _writing(409), bodies.DecisionBody, Examples(examples.DECISIONS),
        examples.DECISION_ANSWER,
    ),
    Route(
        "POST", "/v1/decisions/preview", "decide", handlers.preview, "decisions",
        "The answer a drawdown or review would get now, with its trace; records nothing", answers.ExplainedDecision,
        _writing(409), bodies.DecisionBody, Examples(examples.DECISIONS),
    ),
    Route(
        "GET", "/v1/decisions/{decision_id}", "read", handlers.get_decision, "decisions",
        "A decision with its full trace, as long as the archive has it", answers.ExplainedDecision, _reading(404, 410),
    ),
    Route(
        "GET", DECIDE_PATH, "read", search_handlers.search_decisions, "decisions",
        "Decisions by customer, time, outcome, reason, rule or policy, newest first; a page at a time",
        answers.DecisionsFound, _reading(), answer_example=examples.DECISIONS_FOUND, query=_SEARCH_QUERY,
    ),
    Route(
        "POST", "/v1/events", "events", handlers.post_events, "customers",
        "Record up to 1,000 events; each is accepted, a duplicate, or rejected with its field and reason",
        answers.EventsAnswer, _writing(409), bodies.EventsBody, examples.EVENTS,
    ),
    Route(
        "PUT", "/v1/facilities/{facility_id}", "events", handlers.put_facility, "customers",
        "Take over core banking's snapshot of a credit line", answers.FacilityAnswer, _writing(404, 409),
        bodies.FacilityBody, examples.FACILITY,
    ),
    Route(
        "GET", "/v1/facilities/{facility_id}", "read", handlers.get_facility, "customers",
        "A credit line with its derived outstanding, reserved and available", answers.FacilityAnswer,
        _reading(404),
    ),
    Route(
        "PUT", "/v1/customers/{customer_id}/attributes", "events", handlers.put_attributes, "customers",
        "Take over declared outside values", answers.AttributesAnswer, _writing(409),
        bodies.AttributesBody, examples.ATTRIBUTES,
    ),
    Route(
        "GET", "/v1/customers/{customer_id}/features", "read", handlers.get_features, "customers",
        "Features now or at an instant, with definition and null cause", feature_answers.FeaturesAnswer,
        _reading(404), query=_FEATURE_QUERY,
    ),
    Route(
        "GET", "/v1/customers/{customer_id}/features/{name}", "read", handlers.get_feature, "customers",
        "One feature with the events and parts that make it up, or why it is unknown",
        feature_answers.FeatureExplanation, _reading(404), answer_example=examples.FEATURE_EXPLANATION,
        query=_EXPLAIN_QUERY,
    ),
    Route(
        "GET", "/v1/lists/{list}/{value}", "read", handlers.get_listed, "policy",
        "Whether a value stands on a list", answers.ListedAnswer, _reading(404),
    ),
    Route(
        "PUT", "/v1/lists/{list}/{value}", "rules", handlers.put_listed, "policy",
        "Put a value on a list; live in all workers within a second", answers.ListChangeAnswer, _reading(404),
    ),
    Route(
        "DELETE", "/v1/lists/{list}/{value}", "rules", handlers.delete_listed, "policy",
        "Take a value off a list; live in all workers within a second", answers.ListChangeAnswer,
        _reading(404),
    ),
    Route(
        "GET", "/v1/policy", "read", handlers.get_policy, "policy",
        "What is active here and on every worker", answers.PolicyAnswer, _reading(),
    ),
    Route(
        "POST", "/v1/policy/check", "rules", handlers.check_policy, "policy",
        "Compile a candidate and return its diagnostics; nothing changes", answers.CheckAnswer, _writing(),
        bodies.PolicyFilesBody, examples.POLICY_FILES,
    ),
    Route(
        "POST", "/v1/policy/reload", "rules", handlers.reload_policy, "policy",
        "Take what is on this host's disk and publish it to every worker of every host", answers.PolicyAnswer,
        _reading(), query=_FORCE_QUERY,
    ),
    Route(
        "POST", "/v1/policy/publish", "rules", policy_handlers.publish_policy, "policy",
        "Compile these files, all there are, and publish them to every worker of every host; or say what is wrong",
        answers.PolicyAnswer, _writing(), bodies.PolicyFilesBody, examples.POLICY_FILES, query=_FORCE_QUERY,
    ),
    Route(
        "PUT", "/v1/policy/shadow", "rules", policy_handlers.publish_shadow, "policy",
        "Compile these files, all there are, and put them in shadow on every worker; or say what is wrong",
        answers.ShadowPublished, _writing(), bodies.PolicyFilesBody, examples.POLICY_FILES,
    ),
    Route(
        "DELETE", "/v1/policy/shadow", "rules", policy_handlers.stop_shadow, "policy",
        "Take away what is published to be in shadow", answers.ShadowStopped, _reading(),
    ),
    Route(
        "GET", "/v1/policy/versions", "read", policy_handlers.get_versions, "policy",
        "The published policies, newest first", answers.VersionsAnswer, _reading(),
        answer_example=examples.POLICY_VERSIONS,
    ),
    Route(
        "GET", "/v1/policy/versions/{number}", "read", policy_handlers.get_version, "policy",
        "A published policy with its files", answers.VersionFilesAnswer, _reading(404),
    ),
    Route(
        "POST", "/v1/policy/versions/{number}/restore", "rules", policy_handlers.restore_version, "policy",
        "Publish an earlier policy again, under a new number", answers.PolicyAnswer, _reading(404),
        query=_FORCE_QUERY,
    ),
    Route(
        "GET", "/features", "read", handlers.get_features_page, "policy",
        "Every feature of the active policy as one searchable page for a browser", None, _reading(),
        query=(Query("q", {"type": "string"}, "What to search for when the page opens."),), media="text/html",
    ),
    Route(
        "GET", "/livez", None, handlers.livez, "operation", "Whether the process runs", answers.AliveAnswer,
        (500, 503)
    ),
    Route(
        "GET", "/readyz", None, handlers.readyz, "operation", "Whether the service may be used",
        answers.ReadyAnswer, (500, 503),
    ),
    Route(
        "GET", "/metrics", "read", handlers.metrics, "operation", "Prometheus metrics of all workers here",
        None, _reading(),
    ),
)  # fmt: skip

OPEN_PATHS: Final = frozenset({route.path for route in ROUTES if route.scope is None} | {"/docs", "/openapi.json"})
OPEN_PREFIX: Final = "/docs/"
LABELS: Final = (*(route.label for route in ROUTES), "GET /docs", "GET /openapi.json")
