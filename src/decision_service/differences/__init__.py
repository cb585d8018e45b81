"""Differences between two policies: which rules, thresholds, cells and features are not the same, by their meaning.

    meaning    one text for everything that means the same: expressions, effects, numbers, cells
    parts      the files of a policy as named parts, wherever they stand and however they are laid out
    comparing  the parts of two policies side by side
    report     the differences as text and JSON

Works on the files alone, so that a policy that no longer compiles can be compared as well. Comments, layout, the order
of what has no order, and which file a feature stands in are no difference.
"""
