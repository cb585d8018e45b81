"""The closed list of aggregations a feature row may name, and what each takes.

An aggregation over events takes a segment (`of`) and windows; `wants` lists the further keys it must have:

    by         group key (payee, device, day ...)      q          share of a quantile, 0 to 1
    segment    a second segment (`while`, `since`,     top        how many of the largest
               `after`, `before`, `answer`)            width      a duration
    cap        most it counts                          half_life  a duration in days
    within     a duration     share  a ratio           against    a base number (money)
    least, above, below  a level: of use (a ratio), of days past due
    calendar   a declared calendar (`in_calendar`)
    repaid     a segment: what pays the balance, or the dues, down (of `of`: draws, or what fell due)

The `daily_*` and `terms_*` aggregations look at the request's line; what its days and terms are stands in
`kernel_daily` and `kernel_terms`. `daily_*` may name `limits`, the segment of its limit changes (without it, every
day's limit is today's), and their `Nk` counts days since the grant.

To add one: an opcode, its formula in the kernel part it belongs to, a row here, its definition in the test oracle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from decision_service.core.features import opcodes as o


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One aggregation over a segment. `money`: carries the value's unit. `flags`: what the stream must prepare."""

    name: str
    opcode: int
    meaning: str
    money: bool = False
    flags: int = 0
    wants: tuple[str, ...] = ()
    valued: bool = False  # looks at the value; counts members with a value only
    of_line: bool = False  # about the request's line, its balance or its terms, as of now
    by_day: bool = False  # its windows are whole local days


def _plain(name: str, opcode: int, meaning: str, *wants: str) -> Aggregation:
    return Aggregation(name, opcode, meaning, wants=wants)


def _valued(name: str, opcode: int, meaning: str, *wants: str, money: bool = True, flags: int = 0) -> Aggregation:
    return Aggregation(name, opcode, meaning, money, flags, wants, True)


def _sorted(name: str, opcode: int, meaning: str, *wants: str, money: bool = True) -> Aggregation:
    return _valued(name, opcode, meaning, *wants, money=money, flags=o.FLAG_SORTED)


def _grouped(name: str, opcode: int, meaning: str, *, money: bool = False) -> Aggregation:
    return Aggregation(name, opcode, meaning, money, o.FLAG_GROUPED, ("by",))


def _daily(name: str, opcode: int, meaning: str, *wants: str, money: bool = False) -> Aggregation:
    return Aggregation(name, opcode, meaning, money, wants=("repaid", *wants), of_line=True, by_day=True)


def _terms(name: str, opcode: int, meaning: str, *wants: str, money: bool = False) -> Aggregation:
    return Aggregation(name, opcode, meaning, money, wants=("repaid", *wants), of_line=True)


AGGREGATIONS: Final[dict[str, Aggregation]] = {
    entry.name: entry
    for entry in (
        _plain("count", o.O_COUNT, "number of events"),
        _valued("sum", o.O_SUM, "sum of the values"),
        _valued("mean", o.O_MEAN, "arithmetic mean"),
        _valued("min", o.O_MIN, "smallest value"),
        _valued("max", o.O_MAX, "largest value"),
        _valued("std", o.O_STD, "population standard deviation"),
        _valued("first", o.O_FIRST, "value of the oldest event"),
        _valued("last", o.O_LAST, "value of the newest event"),
        _plain("share", o.O_COUNT, "share of the events of `among` that are in `of` too", "among"),
        _plain("first_age", o.O_FIRST_AGE, "seconds since the oldest event"),
        _plain("last_age", o.O_LAST_AGE, "seconds since the newest event"),
        _plain("gap_mean", o.O_GAP_MEAN, "mean seconds between consecutive events"),
        _plain("gap_min", o.O_GAP_MIN, "least seconds between consecutive events"),
        _plain("gap_std", o.O_GAP_STD, "population standard deviation of the gaps, seconds"),
        _plain("gap_max", o.O_GAP_MAX, "longest gap in seconds, the one up to now included"),
        _plain("gap_ratio", o.O_GAP_RATIO, "mean of the last 3 gaps over the mean of the 10 before"),
        _valued("rising", o.O_RISING, "strict rises ending at the newest", money=False),
        _valued("falling", o.O_FALLING, "strict falls ending at the newest", money=False),
        _valued("rising_max", o.O_RISING_MAX, "longest row of strict rises", money=False),
        _valued("falling_max", o.O_FALLING_MAX, "longest row of strict falls", money=False),
        _valued("equal_run", o.O_EQUAL_RUN, "equal values ending at the newest", money=False),
        _plain("burst", o.O_BURST, "most events in any span of `width`", "width"),
        _valued("ewma", o.O_EWMA, "exponentially weighted mean of daily sums", "half_life"),
        _sorted("quantile", o.O_QUANTILE, "quantile, linear interpolation", "q"),
        _sorted("mode", o.O_MODE, "most frequent exact value, the smallest on a tie"),
        _sorted("mode_count", o.O_MODE_COUNT, "how often the most frequent value occurs", money=False),
        _sorted("mad", o.O_MAD, "median of |x - median|"),
        _sorted("distinct_values", o.O_DISTINCT_VALUES, "number of distinct values", money=False),
        _sorted("top_sum", o.O_TOP_SUM, "sum of the `top` largest values", "top"),
        _sorted("gini", o.O_GINI, "Gini coefficient", money=False),
        _grouped("distinct", o.O_GROUPS, "number of distinct keys"),
        _grouped("hhi", o.O_HHI, "sum of squared shares of the amount"),
        _grouped("top_share", o.O_GROUP_TOP_SHARE, "largest share of the amount"),
        _grouped("top_count_share", o.O_GROUP_COUNT_SHARE, "largest share of the count"),
        _grouped("top_group_sum", o.O_GROUP_TOP_SUM, "largest amount of one key", money=True),
        _grouped("top_group_count", o.O_GROUP_TOP_COUNT, "largest count of one key"),
        _grouped("entropy", o.O_ENTROPY, "entropy of the counts over ln(number of categories)"),
        _grouped("circular_std", o.O_CIRCULAR_STD, "circular standard deviation"),
        _grouped("new_sum", o.O_NEW_GROUP_SUM, "amount of keys first seen inside the window", money=True),
        _grouped("benford", o.O_BENFORD, "mean absolute deviation of first digits from Benford's law"),
        _plain("streak", o.O_TAIL_STREAK, "newest events in a row inside `while`", "while", "cap"),
        _valued("sum_since", o.O_SUM_SINCE, "sum after the newest event of `since`, null without one", "since"),
        _valued("max_since", o.O_MAX_SINCE, "largest value after the newest event of `since`", "since"),
        _plain("count_since", o.O_COUNT_SINCE, "events after the newest event of `since`", "since"),
        _plain("follows", o.O_REDRAW_COUNT, "events less than `within` after one of `after` and at least `share` of it",
               "after", "within", "share"),
        Aggregation("follows_sum", o.O_REDRAW_SUM, "amount of `follows`", True, 0, ("after", "within", "share")),
        _plain("smaller_after", o.O_RETRIES, "events smaller than the newest `after` before them", "after"),
        _plain("precedes", o.O_FOLLOWED, "events less than `within` before one of `before`", "before", "within"),
        _valued("episodes", o.O_EPISODES, "rows of rising values", money=False),
        _plain("open_loans", o.O_OPEN_LOANS, "newest draws that the balance `against` still covers", "against"),
        _daily("daily_at", o.O_DAY_AT, "closing use of the local day `window` ago"),
        _daily("daily_max", o.O_DAY_MAX, "largest closing use"),
        _daily("daily_min", o.O_DAY_MIN, "least closing use"),
        _daily("daily_mean", o.O_DAY_MEAN, "mean closing use"),
        _daily("daily_std", o.O_DAY_STD, "population standard deviation of the closing use"),
        _daily("daily_slope", o.O_DAY_SLOPE, "least-squares slope of the closing use, per day"),
        _daily("daily_jump", o.O_DAY_JUMP, "largest rise of the closing use within 7 days"),
        _daily("days_over", o.O_DAY_OVER, "local days whose closing use of the line is at least `least`", "least"),
        _daily("daily_streak", o.O_DAY_STREAK, "local days in a row, ending today, at `least` or more", "least"),
        _daily("daily_episodes", o.O_DAY_EPISODES, "rows of local days closing above `above`", "above"),
        _daily("daily_rises", o.O_DAY_RISES, "months of 30 local days over which the closing use rose"),
        _daily("daily_balance_mean", o.O_DAY_BALANCE_MEAN, "mean closing balance of the days before today", money=True),
        _daily("daily_active_months", o.O_DAY_ACTIVE, "months of 30 local days with a balance on some day"),
        _daily("daily_low_months", o.O_DAY_BELOW, "share of months of 30 local days whose mean use is below `below`",
               "below"),
        _valued("worst_months", o.O_WORST_MONTHS, "30-day months whose largest value is from `least` to below `below`",
                "least", "below", money=False),
        _terms("terms_ratio_mean", o.O_TERM_RATIO_MEAN, "mean of paid over due"),
        _terms("terms_ratio_min", o.O_TERM_RATIO_MIN, "least of paid over due"),
        _terms("terms_ratio_max", o.O_TERM_RATIO_MAX, "largest of paid over due"),
        _terms("terms_late_mean", o.O_TERM_LATE_MEAN, "mean days late"),
        _terms("terms_late_slope", o.O_TERM_LATE_SLOPE, "least-squares slope of the days late, per 30 days"),
        _terms("terms_clean", o.O_TERM_CLEAN, "newest terms in a row covered in time", "cap"),
        _terms("terms_open", o.O_TERM_OPEN, "terms past due and not covered"),
        _terms("terms_early", o.O_TERM_EARLY, "terms covered before their day"),
        _terms("terms_partial", o.O_TERM_PARTIAL, "terms on which something but not all was paid"),
        _terms("terms_minimum", o.O_TERM_MINIMUM, "terms on which no more than 1.05 times the minimum was paid"),
        _terms("terms_due", o.O_TERM_DUE, "what fell due", money=True),
        _terms("terms_prepaid", o.O_TERM_PREPAID, "what was paid and not yet due", money=True),
        _terms("terms_carried", o.O_TERM_CARRIED, "what fell due and was not paid in its interval", money=True),
        _plain("km_last", o.O_KM_LAST, "kilometres from the newest place"),
        _plain("kmh_last", o.O_KMH_LAST, "speed from the newest place, accuracies taken off"),
        _plain("gps_both", o.O_BOTH_GPS, "whether the newest place and this one are GPS-grade"),
        _plain("km_home", o.O_KM_HOME, "kilometres from the median place"),
        _plain("gyration", o.O_GYRATION, "root mean square kilometres from the centroid of the places"),
        _plain("last_days", o.O_LAST_DAYS, "local days since the newest event"),
        _plain("secs_to", o.O_SECS_TO, "seconds from the newest event to the first of `before` after it that has at "
               "least `share` of its amount", "before", "share"),
        _plain("returns", o.O_RETURNS, "events less than `within` after one of `after` with the same `by`",
               "by", "after", "within"),
        _plain("unanswered", o.O_UNANSWERED, "events whose `by` no event of `answer` has", "by", "answer"),
    )
}  # fmt: skip

SERIES: Final[dict[str, int]] = {
    "series_sum": o.Z_SUM, "series_mean": o.Z_MEAN, "series_std": o.Z_STD, "series_min": o.Z_MIN,
    "series_max": o.Z_MAX, "series_positive": o.Z_POSITIVE, "series_zero": o.Z_ZERO, "series_rises": o.Z_RISES,
    "series_falls": o.Z_FALLS, "series_flats": o.Z_FLATS, "series_strict_up": o.Z_STRICT_UP,
    "series_strict_down": o.Z_STRICT_DOWN, "series_max_rise": o.Z_MAX_RISE, "series_max_fall": o.Z_MAX_FALL,
    "series_argmax": o.Z_ARGMAX, "series_hhi": o.Z_HHI, "series_slope": o.Z_SLOPE, "series_corr": o.Z_CORRELATION,
}  # fmt: skip

MOMENTS: Final[dict[str, int]] = {
    "grant_age": o.S_GRANT_AGE, "coverage": o.S_COVERAGE, "truncated": o.S_TRUNCATED, "in_calendar": o.S_IN_CALENDAR,
}  # fmt: skip

SEGMENT_KEYS: Final = ("while", "since", "after", "before", "repaid", "limits", "among", "answer")
UNITS: Final = (
    "money", "ratio", "n", "s", "d", "h", "km", "kmh", "bps", "points", "0/1", "1/month", "1/d", "d/month", "",
)  # fmt: skip
