"""Fixtures of the service tests."""

from conftest_service import clock, rules, run  # noqa: F401
