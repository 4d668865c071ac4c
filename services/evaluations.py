"""Flags in OFREP's words (openfeature.dev, OpenFeature Remote Evaluation Protocol 0.3): pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, assert_never

from monitoring.flags.evaluation import Decision, Reason, evaluate
from monitoring.flags.model import SWITCHES, Flags
from monitoring.flags.routing import evaluate_route, explain_route
from monitoring.route import Route

LIVE, ROUTE = "live", "route"
KEYS = (LIVE, ROUTE, *SWITCHES)
"""``live`` is the backend, ``route`` all that a client of ours needs, the others are the switches of what is pushed."""


class ErrorCode(StrEnum):
    """OFREP's error codes, as far as they occur here."""

    FLAG_NOT_FOUND = "FLAG_NOT_FOUND"
    PARSE_ERROR = "PARSE_ERROR"
    TARGETING_KEY_MISSING = "TARGETING_KEY_MISSING"
    INVALID_CONTEXT = "INVALID_CONTEXT"


class EvaluationError(Exception):
    """A flag that cannot be evaluated."""

    def __init__(self, code: ErrorCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details

    def to_json(self) -> dict[str, Any]:
        """Return the members that an answer has for it."""
        return {"errorCode": self.code, "errorDetails": self.details}


def targeting_key(body: object) -> str:
    """Return the client id of a parsed request body, empty when it has none; raises EvaluationError."""
    if not isinstance(body, Mapping):
        raise EvaluationError(ErrorCode.PARSE_ERROR, f"expected an object, got {type(body).__name__}")
    context = body.get("context", {})
    if not isinstance(context, Mapping):
        raise EvaluationError(ErrorCode.INVALID_CONTEXT, "context must be an object")
    key = context.get("targetingKey", "")
    if not isinstance(key, str):
        raise EvaluationError(ErrorCode.INVALID_CONTEXT, "context.targetingKey must be text: the client's id")
    return key


def evaluation(flags: Flags, key: str, client: str) -> dict[str, Any]:
    """Return a successful evaluation of one flag; raises EvaluationError."""
    if key in SWITCHES:
        on = key not in flags.switched_off
        source = "environment" if key in flags.from_environment else "file"
        return _success(key, on, "on" if on else "off", "STATIC", {"source": source})
    if key not in KEYS:
        raise EvaluationError(
            ErrorCode.FLAG_NOT_FOUND, f"there is no flag {key!r}; flags are {', '.join(KEYS)}"
        )
    if not client:
        raise EvaluationError(
            ErrorCode.TARGETING_KEY_MISSING, f"{key} needs context.targetingKey, the client's id"
        )
    decision, route = evaluate(flags, client), evaluate_route(flags, client)
    pushed = route.backend is decision.value
    metadata = {
        "rule": decision.reason if pushed else "SWITCHED_OFF",
        "explanation": explain_route(flags, client),
    }
    reason = _reason(decision) if pushed else "STATIC"
    return _success(
        key, route_json(route) if key == ROUTE else route.backend, route.backend, reason, metadata
    )


def evaluations(flags: Flags, client: str) -> list[dict[str, Any]]:
    """Return an evaluation, successful or not, of every flag."""
    found = []
    for key in KEYS:
        try:
            found.append(evaluation(flags, key, client))
        except EvaluationError as error:
            found.append({"key": key, **error.to_json()})
    return found


def route_json(route: Route) -> dict[str, Any]:
    """Return a route as plain JSON."""
    shadow = {} if route.shadow is None else {"shadow": route.shadow}
    return {
        "backend": route.backend,
        "polled": sorted(route.polled),
        "fallbacks": list(route.fallbacks),
        **shadow,
    }


def _success(
    key: str, value: object, variant: str, reason: str, metadata: Mapping[str, str]
) -> dict[str, Any]:
    return {"key": key, "value": value, "variant": variant, "reason": reason, "metadata": dict(metadata)}


def _reason(decision: Decision) -> str:
    """Return OpenFeature's word for a rule. KILLED is no DISABLED: that would have clients take their own default."""
    match decision.reason:
        case Reason.KILLED | Reason.COMPLETED | Reason.STAGE | Reason.CEILING:
            return "STATIC"
        case Reason.ALLOWED | Reason.DENIED:
            return "TARGETING_MATCH"
        case Reason.PERCENTAGE:
            return "SPLIT"
        case Reason.DEFAULT:
            return "DEFAULT"
        case _:
            assert_never(decision.reason)
