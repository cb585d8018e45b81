"""The families of the catalogue: a letter for people, and the prefixes that a family's names start with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Family:
    """One family; `prefixes` are the first parts of its features' names."""

    letter: str
    en: str
    zh: str
    prefixes: tuple[str, ...]


OTHER: Final = Family("-", "Other", "其他", ())
FAMILIES: Final[tuple[Family, ...]] = (
    Family("V", "Volume", "交易量", ("vol", "b", "c")),
    Family("R", "Trend", "交易趋势", ("trd",)),
    Family("C", "Concentration", "集中度", ("con",)),
    Family("D", "Dispersion", "离散", ("dsp",)),
    Family("N", "Anomaly and velocity", "异常与速度", ("ano", "vel")),
    Family("P", "Amount pattern", "金额模式", ("amt",)),
    Family("T", "Time of day and calendar", "时段与日历", ("tod",)),
    Family("G", "Place and device", "地理与设备", ("geo", "dev")),
    Family("U", "Use of the line", "额度使用", ("utl",)),
    Family("Y", "Repayment", "还款", ("rpy",)),
    Family("X", "External and profile", "外部与画像", ("ext", "inq", "prf", "app", "csr")),
    Family("F", "Use of funds", "资金用途", ("use",)),
    Family("E", "Facilities, loans, devices, payees, networks", "额度、借据与关联实体", ("rsk", "fac", "lon")),
    Family("S", "Scores, history and feeds", "评分与元数据", ("scr", "mob", "hist", "feat", "src")),
    Family("K", "Marketing and churn", "营销与流失", ("mkt", "chn")),
    OTHER,
)
_BY_PREFIX: Final = {prefix: family for family in FAMILIES for prefix in family.prefixes}
BY_LETTER: Final = {family.letter: family for family in FAMILIES}


def family_of(name: str) -> Family:
    """The family a name belongs to by its prefix."""
    return _BY_PREFIX.get(name.partition("_")[0], OTHER)


def family_named(text: str) -> Family | None:
    """A family by letter, prefix or English title, whatever the case; None for none."""
    wanted = text.strip().lower()
    for family in FAMILIES:
        if wanted in (family.letter.lower(), family.en.lower(), *family.prefixes):
            return family
    return None
