"""The HTTP interface, from the socket inwards:

    gate       outermost ASGI app: loopback or authentication, rate limit, in-flight cap, counting, the hot route
    app        FastAPI: routing, OpenAPI and the docs page of everything else
    routes     the table of calls: method, path, scope, bodies, answers, every status each can have
    handlers   one function a call: Call in, Reply out
    parse      strict JSON bodies to the types of `core`; `bodies` and `fields` are their shapes
    problems   the one table from errors to RFC 9457 problem documents

Everything a caller can get wrong ends as a 4xx problem that names the field, before anything is changed.
"""
