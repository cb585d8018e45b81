"""What people write who mean an effect, and how it is written here: nothing is guessed, but the error says it."""

from __future__ import annotations

from typing import Final

from decision_service.core.source import nearest_name

_HOLD, _LIMIT_CUT = (
    "`{hold: %s}`",
    "`{limit: {cut: 0.20}}` for the line, `{cap_draw: 0.8 * request.amount}` for this draw",
)
_RAISE, _FREEZE, _PRICE = "`{limit: {raise: 0.10}}`", "`{limit: freeze}`", "`{price: {add_bps: 100}}`"
_CAP, _ALERT = "`{cap_draw: 0.8 * request.amount}`", "`{alert: {tier: yellow, indicator: name}}`"
_MEANT: Final[dict[str, tuple[str, ...]]] = {
    "`approve`": ("accept", "allow", "pass", "ok", "permit", "approved"),
    _HOLD % "block": ("block", "decline", "deny", "refuse", "reject", "stop", "blocked"),
    _HOLD % "review": ("review", "manual", "manual_review", "refer", "escalate", "queue"),
    _HOLD % "step_up": ("step_up", "stepup", "challenge", "otp", "verify", "mfa", "face_check"),
    _FREEZE: ("freeze", "freeze_limit", "freeze_line", "suspend", "lock"),
    _RAISE: ("raise", "raise_limit", "increase", "increase_limit", "limit_up"),
    _LIMIT_CUT: ("cut", "cut_limit", "reduce", "reduce_limit", "decrease", "decrease_limit", "lower", "limit_down"),
    _CAP: ("cap", "cap_amount", "max_amount", "draw_cap", "approve_amount"),
    "`{limit: {set: 5000}}`": ("set", "set_limit", "new_limit"),
    _PRICE: ("reprice", "add_bps", "rate", "markup", "surcharge", "raise_price", "set_apr", "apr", "set_rate"),
    _ALERT: ("warn", "warning", "tier", "notify", "flag", "signal"),
    "`{offer: name}`": ("coupon", "campaign", "incentive", "discount"),
    "`{tag: name}`": ("label", "mark"),
    "`{renew: auto | manual | decline}`": ("renewal", "auto", "extend", "auto_renew"),
    "`nothing`": ("none", "skip", "ignore", "no_action", "noop", "null", "~"),
}
_EFFECT_BY_WORD: Final = {word: effect for effect, words in _MEANT.items() for word in words}
_HOLD_BY_WORD: Final = {
    "manual": "review", "person": "review", "true": "review", "yes": "review", "refer": "review", "otp": "step_up",
    "challenge": "step_up", "verify": "step_up", "mfa": "step_up", "decline": "block", "deny": "block",
    "reject": "block", "refuse": "block", "stop": "block", "hard": "block",
}  # fmt: skip


def meant_effect(word: str) -> str:
    """How the effect that `word` probably stands for is written, or "" if nothing comes to mind."""
    if ":" in word:  # quotes around a mapping make a text of it
        return f"`{{{word}}}` without quotes"
    return _EFFECT_BY_WORD.get(word.lower(), "")


def meant_hold(word: str, known: tuple[str, ...]) -> str:
    """The kind of hold `word` probably stands for, or "" if none comes to mind."""
    return _HOLD_BY_WORD.get(word.lower(), "") or nearest_name(word, known)
