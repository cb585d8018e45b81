"""The handlers of published policies: publishing, listing, reading and restoring them."""

from __future__ import annotations

from decision_service.api.call import Call, Reply, json_reply, read_body
from decision_service.api.handlers import Desk, flag
from decision_service.api.parse import parse_policy_files
from decision_service.core.errors import InvalidInput

NUMBER_DIGITS_MAX = 12


async def publish_policy(desk: Desk, call: Call) -> Reply:
    """POST /v1/policy/publish."""
    files = parse_policy_files(await read_body(call, desk.settings.body_bytes_max))
    return json_reply(await desk.customers.publish_policy(files, call.principal.name, force=flag(call, "force")))


async def publish_shadow(desk: Desk, call: Call) -> Reply:
    """PUT /v1/policy/shadow."""
    files = parse_policy_files(await read_body(call, desk.settings.body_bytes_max))
    return json_reply(await desk.customers.publish_shadow(files, call.principal.name))


async def stop_shadow(desk: Desk, call: Call) -> Reply:
    """DELETE /v1/policy/shadow."""
    return json_reply({"stopped": await desk.customers.stop_shadow()})


async def get_versions(desk: Desk, call: Call) -> Reply:
    """GET /v1/policy/versions."""
    return json_reply({"versions": await desk.customers.policy_versions()})


async def get_version(desk: Desk, call: Call) -> Reply:
    """GET /v1/policy/versions/{number}."""
    return json_reply(await desk.customers.policy_version(_number(call)))


async def restore_version(desk: Desk, call: Call) -> Reply:
    """POST /v1/policy/versions/{number}/restore."""
    return json_reply(
        await desk.customers.restore_policy(_number(call), call.principal.name, force=flag(call, "force"))
    )


def _number(call: Call) -> int:
    """The number in the path. InvalidInput."""
    text = call.path_id("number")
    if not (text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS_MAX):
        raise InvalidInput("number", "must be the number of a published policy, such as 7")
    return int(text)
