"""Every limit of the service in one place: what it bounds and its unit. Whatever can grow has one.

The relations between limits are asserted beside them, so that a change that breaks one fails at import.
"""

from __future__ import annotations

from typing import Final

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

# --- ids, money, time -------------------------------------------------------------------------------------------
ID_CHARS_MAX: Final = 128  # characters of any id (customer, request, facility, event, device, counterparty)
AMOUNT_MINOR_MAX: Final = 10**14  # minor units of one amount: far below 2**53, so a double holds it exactly
EVENT_AGE_MAX_MS: Final = 3_660 * DAY_MS  # an event older than ten years is a unit mistake, not history
REQUEST_AGE_MAX_MS: Final = 30 * DAY_MS  # a drawdown dated further back is a replayed request
CLOCK_AHEAD_MAX_MS: Final = 5 * MINUTE_MS  # how far a caller's clock may run ahead of ours

# --- the event log ----------------------------------------------------------------------------------------------
RECORD_BYTES: Final = 64  # one event, and the header in front of the first
EVENTS_PER_CUSTOMER_MAX: Final = 4_096  # default of the setting; older ones are trimmed and the windows flagged
EVENTS_TRIM_SLACK: Final = 256  # a full log is trimmed by this many at once, so trimming is rare
RETENTION_MS: Final = 400 * DAY_MS  # default of the setting
EVENTS_PER_CALL_MAX: Final = 1_000
PARTITIONS: Final = 256  # default of the setting, fixed at the first start of a store
PARTITIONS_MAX: Final = 4_096

# --- requests ---------------------------------------------------------------------------------------------------
BODY_BYTES_MAX: Final = 1_048_576  # of any call; 1,000 events of about 700 bytes fit
DECISION_BODY_BYTES_MAX: Final = 16_384
ATTRIBUTES_PER_CALL_MAX: Final = 256
STRING_VALUE_CHARS_MAX: Final = 256  # of a string attribute's value
DEADLINE_MS_DEFAULT: Final = 20
DEADLINE_MS_MIN: Final = 1
DEADLINE_MS_MAX: Final = 5_000
COMMIT_ATTEMPTS_MAX: Final = 16  # read-decide-commit rounds before a contended customer is given up on
FACILITIES_PER_CUSTOMER_MAX: Final = 64

# --- policy -----------------------------------------------------------------------------------------------------
EXPRESSION_CHARS_MAX: Final = 2_000
EXPRESSION_DEPTH_MAX: Final = 32
EXPRESSION_NODES_MAX: Final = 500
POLICY_FILE_BYTES_MAX: Final = 4 * 1_048_576
YAML_DEPTH_MAX: Final = 24
YAML_NODES_MAX: Final = 400_000
RULES_MAX: Final = 10_000
FEATURES_MAX: Final = 4_000
CALENDAR_DAYS_MAX: Final = 4_000  # of one calendar: every holiday of a century
MATRIX_CELLS_MAX: Final = 10_000
CONSTANTS_MAX: Final = 2_000  # of one file
TABLE_INPUTS_MAX: Final = 8
TABLE_ROWS_MAX: Final = 1_000
TABLE_REGIONS_MAX: Final = 100_000  # regions looked at to find gaps and overlaps of one table
TREE_DEPTH_MAX: Final = 16
TREE_NODES_MAX: Final = 1_000
POINTS_BINS_MAX: Final = 200  # of one characteristic of a points scorecard
POLICY_FILES_MAX: Final = 256
BUNDLE_BYTES_MAX: Final = 16 * 1_048_576  # of all files of a published policy together
POLICIES_KEPT_MAX: Final = 200  # published policies that can be gone back to
LIST_VALUES_MAX: Final = 1_000_000
SCORECARDS_MAX: Final = 16
MODEL_BYTES_MAX: Final = 64 * 1_048_576

assert AMOUNT_MINOR_MAX * EVENTS_PER_CUSTOMER_MAX < 2**63, "a sum over a whole log must fit an int64"
assert AMOUNT_MINOR_MAX < 2**53, "an amount must be exact as a double"
assert DECISION_BODY_BYTES_MAX <= BODY_BYTES_MAX
assert EVENTS_TRIM_SLACK < EVENTS_PER_CUSTOMER_MAX
assert EVENTS_PER_CALL_MAX <= EVENTS_PER_CUSTOMER_MAX
assert PARTITIONS <= PARTITIONS_MAX
assert POLICY_FILE_BYTES_MAX <= BUNDLE_BYTES_MAX
assert TREE_DEPTH_MAX <= YAML_DEPTH_MAX, "a tree nests one YAML level a node"
assert DEADLINE_MS_MIN <= DEADLINE_MS_DEFAULT <= DEADLINE_MS_MAX
