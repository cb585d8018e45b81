"""The layout of policy files: `rules fmt`.

    words     a file's text cut into the words of YAML, each with its place; what of it must stay as it is
    spacing   spaces between the words of a line
    indents   how far each line stands in
    layout    all of it until nothing changes any more, and the proof that nothing was lost

Everything an analyst wrote stays: comments, quotes, the choice of block or flow style, line breaks, the order of keys,
and columns that are aligned with a neighbouring line. What becomes uniform: two spaces a level (a list stands in from
its key), one space after `:`, `,` and `-`, none inside brackets, no spaces at the end of a line, at most one empty line
in a row, one line break at the end. A general emitter (ruamel.yaml was looked at) writes a file anew instead: it
re-flows long lines and pulls aligned columns together, which in a table of constants is the layout.
"""
