"""The pure heart of the service: types, features, rules, scorecards and the one decision function.

Nothing below this package reads a clock, draws a random number, opens a file or a socket, or logs. It imports the
standard library, NumPy, Numba and itself; `tests/test_architecture.py` holds it to that.
"""
