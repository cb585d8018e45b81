"""Columns that tie one event to another, or to whose event it is: customer, loan and label.

A label is an event of its own that names the event it is about. What an event is called at `t` is the category of the
newest label about it in H(t), by occurred_at and then by recorded order; whether the label was recorded before or after
the event does not matter. Keys are the caller's ids digested, and ids are a customer's own: in an entity's log, where
customers meet, a label is about an event only if both are of one customer.
"""

from __future__ import annotations

import numpy as np

from decision_service.core import inputs as q
from decision_service.core.compiled import kernel_function
from decision_service.core.event import DRAWDOWN, FLAG_LOAN, LABEL
from decision_service.core.features import opcodes as o

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

U = np.uint64


@kernel_function
def fill_customers(words, row, h, ints):
    """Whose event it is: word 6 in an entity's log, the request's customer everywhere in a customer's own."""
    linked = words[0, 3] != 0
    for k in range(h):
        ints[o.C_CUSTOMER, k] = words[ints[o.R_ORDER, k] + 1, 6] if linked else row[q.CUSTOMER]
    ints[o.C_CUSTOMER, h] = row[q.CUSTOMER]


@kernel_function
def fill_loans(words, row, h, ints):
    """A drawdown is its own loan; another event is of the loan that it concerns, 0 for none."""
    order, loans = ints[o.R_ORDER], ints[o.C_LOAN]
    for k in range(h):
        record = words[U(order[k] + 1)]
        word, own, loan = record[4], record[1], record[7]  # read before it is known which: a wrong guess costs more
        loan = loan if (word >> 24) & FLAG_LOAN != 0 else 0
        loans[k] = own if word & 0xFF == DRAWDOWN else loan
    loans[h] = row[q.LOAN]


@kernel_function
def _slot(words, key, customer, linked, table, last, order):
    """Where the label about an event stands in the table, or the empty slot where it would."""
    slot = (key ^ (key >> 17) ^ (key >> 31)) & last
    while table[slot] != 0:
        i = order[table[slot] - 1] + 1
        if words[i, 7] == key and (not linked or words[i, 6] == customer):
            break
        slot = (slot + 1) & last
    return slot


@kernel_function
def _is_label(words, i):
    word = words[i, 4]
    return word & 0xFF == LABEL and (word >> 24) & FLAG_LOAN != 0


@kernel_function
def fill_labels(words, h, ints):
    """The code of the newest label about each event, 0 for none; labels are hashed by what they are about."""
    order = ints[o.R_ORDER]
    table = ints[o.R_TABLE]
    column = ints[o.C_LABEL]
    labels = 0
    for k in range(h):
        labels += _is_label(words, order[k] + 1)
    for k in range(h + 1):
        column[k] = 0
    if labels == 0:
        return
    size = 16
    while size < 2 * labels:
        size *= 2
    for s in range(size):
        table[s] = 0
    linked = words[0, 3] != 0
    for k in range(h):
        i = order[k] + 1
        if _is_label(words, i):
            table[_slot(words, words[i, 7], words[i, 6], linked, table, size - 1, order)] = k + 1
    for k in range(h):
        i = order[k] + 1
        found = table[_slot(words, words[i, 1], words[i, 6], linked, table, size - 1, order)]
        if found != 0:
            column[k] = ints[o.C_CODE, found - 1]
