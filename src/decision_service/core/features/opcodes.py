"""The contract between plan and kernel: layout of the program array, of the scratch arrays, and every opcode.

A plan is one int64 array (`prog`) and one float64 register file (`reg`); the kernel is one compiled function that
interprets it. Nothing is compiled when a policy is loaded.

    reg     inputs | features in slot order | hidden results | temporaries | constants
    prog    header of HEADER_WORDS offsets and counts, then the sections it points at:
            windows   age in ms of each distinct window, ascending
            keys      integer columns that events are grouped by
            scalars   instructions [op, dst, a, b, c] on `reg`, run before any event is looked at (limits of segments)
            columns   instructions [op, dst, a, b] that make float columns; an operand < 0 is register ~operand
            masks     instructions [op, dst, column or mask, operand kind, operand] that make masks
            streams   see `Stream` below
            formulas  instructions like scalars, run last: derived features

    Three words of the header say how far back what is looked at, as the index of a window or -1 for everything:
            reach     records beyond it are left out
            ordered   records beyond it need no order among themselves: they are only counted and added up
            grouped   records beyond it get no group numbers
    A slim plan (1, else 0) looks at no more of a record than SLIM, and whatever `needs` ask for.
    An entity's log holds a thousand records of other people's, in the order in which they arrived, of which a plan may
    ask for a count over a year and for the customers of a day: sorting and hashing them all was a third of a decision.

    Stream  [mask, with_request, value kind, value column, flags, groups, key 0..7, until, from, sorted, grows 0..7,
             cells] then per cell
            [window, outputs] then per output OUTPUT_WORDS words:
            [op, slot, min_n, default register, min_age_ms, scaled, p1, p2]

Cells of a stream ascend by window, so every accumulator only ever grows from the newest event to the oldest. A stream
with a delay names in `until` the window its members must have left (-1 without one); its cells' windows include it.

Events stand sorted by (occurred_at, recorded order); the request itself stands after the last one as if it had just
been booked, and only streams with `with_request` see it.
"""

from __future__ import annotations

from typing import Final

HEADER_WORDS: Final = 24
(
    P_INPUTS, P_OUTPUTS, P_WINDOWS, P_WINDOWS_N, P_KEYS, P_KEYS_N, P_SCALARS, P_SCALARS_N, P_COLUMNS, P_COLUMNS_N,
    P_MASKS, P_MASKS_N, P_STREAMS, P_STREAMS_N, P_FORMULAS, P_FORMULAS_N, P_FLOAT_NEEDS, P_INT_NEEDS, P_VALUES_ROW,
    P_REACH, P_ORDERED, P_GROUPED, P_SLIM,
) = range(23)  # fmt: skip

# --- the plan's buffer: these words, then registers, transitions and offsets of the zone, `ints`, `floats`, masks -----
BUFFER_WORDS: Final = 8
(
    B_INT_WIDTH, B_FLOAT_ROWS, B_FLOAT_WIDTH, B_MASK_ROWS, B_MASK_WIDTH, B_REGISTERS, B_TRANSITIONS, B_OFFSETS,
) = range(8)  # fmt: skip

# --- integer columns (rows of `ints`); a text column holds 0 where the event has none --------------------------------
(
    C_TIME, C_KIND, C_STATUS, C_CHANNEL, C_CODE, C_FACILITY, C_DEVICE, C_PARTY, C_AMOUNT, C_DAY, C_HOUR, C_DOW,
    C_PLACE, C_LAT, C_LON, C_ACCURACY, C_CITY, C_FIRST_DIGIT, C_CUSTOMER, C_LOAN, C_LABEL,
) = range(21)  # fmt: skip
SLIM: Final = frozenset((C_TIME, C_KIND, C_STATUS, C_CODE))  # base columns that every plan has
NEED_LOCAL: Final = 1
NEED_PLACE: Final = 2
NEED_DIGIT: Final = 4
NEED_CUSTOMER: Final = 8
NEED_LOAN: Final = 16
NEED_LABEL: Final = 32
# scratch rows of `ints`
R_ORDER, R_TMP1, R_TMP2, R_MEMBERS, R_SORTED, R_SETTLED, R_TABLE, R_TABLE_ID, R_FIRST = range(21, 30)
R_GROUP_COUNT: Final = 30  # one row a group of the stream
GROUPS_MAX: Final = 8
R_GROUP_SUM: Final = R_GROUP_COUNT + GROUPS_MAX
R_KEY: Final = R_GROUP_SUM + GROUPS_MAX  # one row a key: dense group number of every event, -1 where absent
KEYS_MAX: Final = 12
R_WINDOW: Final = R_KEY + KEYS_MAX  # first position inside each window
R_GROUPS: Final = R_WINDOW + 1  # number of groups of every key
R_TALLY: Final = R_GROUPS + 1  # running totals of every group of the stream, TALLY_WORDS each
TALLY_WORDS: Final = 5
T_SEEN, T_AMOUNT, T_DISTINCT, T_TOP_COUNT, T_TOP_SUM = range(TALLY_WORDS)
# the line day by day (`kernel_daily`) and its terms (`kernel_terms`): what is worked out once a request
R_MEMO: Final = R_TALLY + 1
R_DAY_MOVED, R_DAY_LIFTED, R_DAY_BALANCE, R_DAY_LIMIT, R_DAY_KNOWN, R_TERM, R_TERM_PAID = range(R_MEMO + 1, R_MEMO + 8)
DAYS_MAX: Final = 400  # days back that the buffers of a plan hold, however short the log
INT_ROWS: Final = R_TERM_PAID + 1

# --- float columns (rows of `floats`); temporaries of the plan follow, then V_ROWS working rows -----------------------
(
    F_AMOUNT, F_VALUE, F_AGE_S, F_HOUR, F_DOW, F_LAT, F_LON, F_ACCURACY, F_SINCE_GRANT_S, F_LAST_DIGIT,
) = range(10)  # fmt: skip
FLOAT_COLUMNS: Final = 10
(
    V_VALUES, V_SORTED, V_TMP, V_LEFT, V_RIGHT, V_DAY_USE, V_DAY_SUM, V_DAY_MOST, V_DAY_LEAST,
) = range(9)  # relative to P_VALUES_ROW  # fmt: skip
V_ROWS: Final = 9

# --- scalar instructions ----------------------------------------------------------------------------------------------
(
    S_MOVE, S_ADD, S_SUB, S_MUL, S_DIV, S_NEG, S_LT, S_LE, S_EQ, S_AND, S_OR, S_NOT, S_SELECT, S_MIN, S_MAX, S_ABS,
    S_ROUND, S_FLOOR, S_CEIL, S_SQRT, S_LOG, S_EXP, S_IS_NULL, S_COALESCE, S_GUARD_AGE, S_GUARD_COUNT, S_NEW,
    S_AT_LEAST, S_ROW_EQ, S_GRANT_AGE, S_COVERAGE, S_TRUNCATED, S_SERIES, S_GUARD_NAMED,
) = range(34)  # fmt: skip
S_IN_CALENDAR: Final = 140
SCALAR_WORDS: Final = 6  # [op, dst, a, b, c, d]

# --- column and mask instructions -------------------------------------------------------------------------------------
K_ADD, K_SUB, K_MUL, K_DIV, K_MIN, K_MAX, K_NEG, K_ABS, K_FLOOR, K_CEIL, K_ROUND, K_SQRT, K_LOG, K_EXP, K_COALESCE = (
    range(15)
)
COLUMN_WORDS: Final = 4
(
    M_TRUE, M_FALSE, M_EQ, M_NE, M_LE, M_GE, M_TEXT_EQ, M_TEXT_NE, M_F_LT, M_F_LE, M_F_GT, M_F_GE, M_F_EQ, M_F_NE,
    M_F_NULL, M_F_KNOWN, M_AND, M_OR, M_TEXT_NULL, M_TEXT_KNOWN, M_IF, M_LT,
) = range(22)  # fmt: skip
MASK_WORDS: Final = 5
M_OF_INTEGERS: Final = frozenset((M_EQ, M_NE, M_LE, M_GE, M_LT, M_TEXT_EQ, M_TEXT_NE, M_TEXT_NULL, M_TEXT_KNOWN))
CODE_ROWS: Final = 3  # rows behind the masks: C_KIND, C_STATUS, C_CHANNEL as bytes; then the statuses as recorded
FROM_CONSTANT, FROM_ROW, FROM_REQUEST = range(3)  # operand kinds of integer leaves
FROM_REGISTER, FROM_COLUMN = range(2)  # operand kinds of float leaves

# --- streams ----------------------------------------------------------------------------------------------------------
STREAM_UNTIL: Final = 6 + GROUPS_MAX
STREAM_FROM: Final = STREAM_UNTIL + 1  # the widest window, -1 for everything: no older member is listed
STREAM_SORTED: Final = STREAM_FROM + 1  # the widest window that looks at sorted values
STREAM_GROWS: Final = STREAM_SORTED + 1  # for each group how many cells it grows for
STREAM_CELLS: Final = STREAM_GROWS + GROUPS_MAX  # where the number of cells stands
STREAM_WORDS: Final = STREAM_CELLS + 1
OUTPUT_WORDS: Final = 8
VALUE_NONE, VALUE_AMOUNT, VALUE_COLUMN = range(3)
FLAG_TIMES, FLAG_VALUES, FLAG_SORTED, FLAG_GROUPED = 1, 2, 4, 8  # what a stream's outputs look at
FLAG_MEMBERS, FLAG_SUMS = 16, 32  # the members one by one, not only their number and sum; the sum

(
    O_COUNT, O_SUM, O_BUCKET_COUNT, O_BUCKET_SUM, O_MEAN, O_MIN, O_MAX, O_STD, O_FIRST, O_LAST, O_FIRST_AGE, O_LAST_AGE,
) = range(12)  # fmt: skip
(
    O_GAP_MEAN, O_GAP_MIN, O_GAP_STD, O_GAP_MAX, O_GAP_RATIO, O_RISING, O_FALLING, O_RISING_MAX, O_FALLING_MAX,
    O_EQUAL_RUN, O_BURST, O_EWMA,
) = range(20, 32)  # fmt: skip
O_QUANTILE, O_MODE, O_MODE_COUNT, O_MAD, O_DISTINCT_VALUES, O_TOP_SUM, O_GINI = range(40, 47)
(
    O_GROUPS, O_HHI, O_GROUP_TOP_SUM, O_GROUP_TOP_COUNT, O_ENTROPY, O_CIRCULAR_STD, O_NEW_GROUP_SUM, O_BENFORD,
    O_GROUP_TOP_SHARE, O_GROUP_COUNT_SHARE,
) = range(60, 70)  # fmt: skip
(
    O_TAIL_STREAK, O_SUM_SINCE, O_MAX_SINCE, O_COUNT_SINCE, O_REDRAW_COUNT, O_REDRAW_SUM, O_RETRIES, O_FOLLOWED,
    O_EPISODES, O_OPEN_LOANS,
) = range(80, 90)  # fmt: skip
O_KM_LAST, O_KMH_LAST, O_BOTH_GPS, O_KM_HOME, O_NEW_GROUP = range(100, 105)
(
    O_DAY_AT, O_DAY_MAX, O_DAY_MIN, O_DAY_MEAN, O_DAY_STD, O_DAY_SLOPE, O_DAY_JUMP, O_DAY_OVER, O_DAY_STREAK,
    O_DAY_EPISODES, O_DAY_RISES, O_DAY_BALANCE_MEAN, O_DAY_ACTIVE, O_DAY_BELOW,
) = range(120, 134)  # fmt: skip
O_WORST_MONTHS: Final = 134
(
    O_TERM_RATIO_MEAN, O_TERM_RATIO_MIN, O_TERM_RATIO_MAX, O_TERM_LATE_MEAN, O_TERM_LATE_SLOPE, O_TERM_CLEAN,
    O_TERM_OPEN, O_TERM_EARLY, O_TERM_PARTIAL, O_TERM_MINIMUM, O_TERM_DUE, O_TERM_PREPAID, O_TERM_CARRIED,
) = range(160, 173)  # fmt: skip
O_GYRATION, O_LAST_DAYS, O_SECS_TO, O_RETURNS, O_UNANSWERED = range(140, 145)
TALLIES: Final = (O_COUNT, O_SUM, O_BUCKET_COUNT, O_BUCKET_SUM)  # need no list of members
LOOK_BACK: Final = (O_NEW_GROUP_SUM,)  # look at members older than their window
WITHIN: Final = frozenset(  # look at nothing but the members inside their window
    (*range(O_COUNT, O_LAST_AGE + 1), *range(O_GAP_MEAN, O_EWMA + 1), *range(O_QUANTILE, O_GINI + 1), O_GROUPS)
)

# --- series: functions of consecutive registers, newest first ---------------------------------------------------
(
    Z_SUM, Z_MEAN, Z_STD, Z_MIN, Z_MAX, Z_POSITIVE, Z_ZERO, Z_RISES, Z_FALLS, Z_FLATS, Z_STRICT_UP, Z_STRICT_DOWN,
    Z_MAX_RISE, Z_MAX_FALL, Z_ARGMAX, Z_HHI, Z_SLOPE, Z_CORRELATION,
) = range(18)  # fmt: skip
