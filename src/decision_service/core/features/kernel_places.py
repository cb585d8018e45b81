"""Places: distance and speed from the last fix, distance from home, radius of gyration.

Kilometres on a sphere of 6,371.0088 km.
"""

from __future__ import annotations

import math

import numpy as np

from decision_service.core import inputs as q
from decision_service.core.compiled import kernel_function
from decision_service.core.event import ACCURACY_M, GPS_GRADE_CLASS_MAX
from decision_service.core.features import opcodes as o
from decision_service.core.features.kernel_order import ranked_key

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

U = np.uint64
EARTH_KM = 6371.0088
CENTRED_BELOW = 1e-9  # a mean vector this short points nowhere
_ACCURACY_M = np.array((0, *ACCURACY_M), np.float64)  # class 0 is unknown: nothing is known to subtract


@kernel_function
def haversine_km(lat_1, lon_1, lat_2, lon_2):
    """Great-circle distance of two places in degrees."""
    a = math.radians(lat_1)
    b = math.radians(lat_2)
    half_lat = math.sin((b - a) / 2)
    half_lon = math.sin(math.radians(lon_2 - lon_1) / 2)
    chord = half_lat * half_lat + math.cos(a) * math.cos(b) * half_lon * half_lon
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(chord)))


@kernel_function
def last_fix(op, row, ints, at):
    """Distance, speed, or whether both fixes are GPS-grade, of the request against position `at`."""
    lat, lon = row[q.LAT_E6] / 1e6, row[q.LON_E6] / 1e6
    km = haversine_km(ints[o.C_LAT, at] / 1e6, ints[o.C_LON, at] / 1e6, lat, lon)
    if op == o.O_KM_LAST:
        return km
    before = ints[o.C_ACCURACY, at]
    now = row[q.ACCURACY_CLASS]
    if op == o.O_BOTH_GPS:
        graded = 0 < before <= GPS_GRADE_CLASS_MAX and 0 < now <= GPS_GRADE_CLASS_MAX
        return 1.0 if graded else 0.0
    slack = (_ACCURACY_M[before] + _ACCURACY_M[now]) / 1000
    seconds = max((row[q.T_MS] - ints[o.C_TIME, at]) / 1000, 1.0)
    return min(max(km - slack, 0.0) / seconds * 3600, 1e5)


@kernel_function
def _median(column, members, lo, m, keys, counts):
    """The middle one, or halfway between the two."""
    n = m - lo
    for k in range(n):
        keys[k] = column[U(members[U(lo + k)])]
    low = ranked_key(keys, n, (n - 1) // 2, counts)
    if n % 2:
        return float(low)
    below = np.int64(0)
    high = np.int64(2**62)
    for k in range(n):
        x = column[U(members[U(lo + k)])]
        below += x <= low
        high = min(high, x if x > low else high)
    return (low + (low if below > n // 2 else high)) / 2


@kernel_function
def km_home(row, ints, members, lo, m):
    """Distance to the median latitude and longitude of the members."""
    keys = ints[o.R_TABLE]
    counts = ints[o.R_TABLE_ID]
    lat = _median(ints[o.C_LAT], members, lo, m, keys, counts)
    lon = _median(ints[o.C_LON], members, lo, m, keys, counts)
    return haversine_km(lat / 1e6, lon / 1e6, row[q.LAT_E6] / 1e6, row[q.LON_E6] / 1e6)


@kernel_function
def gyration_km(ints, members, lo, m):
    """Root mean square distance of the members from their centroid; null if they have none (spread over the globe).

    The centroid is the direction of the mean of the places as unit vectors: exact on a sphere, also across the
    180th meridian. Distances are great circles.
    """
    x = 0.0
    y = 0.0
    z = 0.0
    for k in range(lo, m):
        lat = math.radians(ints[o.C_LAT, members[k]] / 1e6)
        lon = math.radians(ints[o.C_LON, members[k]] / 1e6)
        x += math.cos(lat) * math.cos(lon)
        y += math.cos(lat) * math.sin(lon)
        z += math.sin(lat)
    n = m - lo
    if n == 0 or math.sqrt(x * x + y * y + z * z) / n < CENTRED_BELOW:
        return np.nan
    lat = math.degrees(math.atan2(z, math.sqrt(x * x + y * y)))
    lon = math.degrees(math.atan2(y, x))
    total = 0.0
    for k in range(lo, m):
        km = haversine_km(ints[o.C_LAT, members[k]] / 1e6, ints[o.C_LON, members[k]] / 1e6, lat, lon)
        total += km * km
    return math.sqrt(total / n)
