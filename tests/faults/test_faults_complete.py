"""Every fault of the catalogue has its tests or a reason, and docs/faults.md names them."""

from __future__ import annotations

from fault_report import DOCUMENT, ROOT, catalogue, marks_in, row


def test_every_fault_is_shown_by_a_test() -> None:
    """A fault whose tests were renamed, removed or never written is named here, and so is a mark for none."""
    marks = marks_in(ROOT / "tests")
    assert set(marks) <= set(catalogue()), "marks for faults that there are not"
    unshown = [fault.id for fault in catalogue().values() if not fault.not_applicable and fault.id not in marks]
    assert unshown == []


def test_the_document_names_the_tests_there_are() -> None:
    """docs/faults.md is of today's tests; `python tests/faults/fault_report.py` or `make faults` writes it anew."""
    marks = marks_in(ROOT / "tests")
    written = DOCUMENT.read_text("utf-8")
    stale = [fault.id for fault in catalogue().values() if row(fault, marks.get(fault.id, [])) not in written]
    assert stale == []
