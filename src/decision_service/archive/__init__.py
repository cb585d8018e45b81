"""The archive: every entry of the outbox streams as Parquet, chained, for ten years.

    outbox entry ──rows──▶ Row ──chain──▶ hashed ──files──▶ staging/ ──head moves in the store──▶ records/

    schema     the columns of a row and how they lie in Parquet
    rows       an entry and its frame as a row; a row's frame and change back, byte for byte
    chain      SHA-256 over rows: what is changed, removed, inserted or reordered shows
    segments   how files of rows are named, and which of them hold the rows of a place
    tables     rows as Arrow tables and as the Parquet file of a segment
    files      `Archive`: a root on a local folder or any fsspec URL; a file is complete or absent

Words: an *entry* is one entry of a stream; a *place* is where a stream lives, a store partition 0 .. 4095 or one of
POLICY, LISTS, ACCESS; a *row* is an archived entry; a *segment* is one Parquet file of consecutive rows of one place
and one UTC day; the *head* of a place, kept in the store, says how far it is archived.

PyArrow is imported where a table is made or read, not before: a worker that never touches the archive does not load it.
"""
