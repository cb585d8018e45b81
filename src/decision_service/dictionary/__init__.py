"""The data dictionary: what every feature and attribute means, how it is computed, and who uses it.

    families    the catalogue's families by letter and by the prefix of a name
    wording     windows and null rules in words
    usage       which rules, matrices, scorecards and features use a name
    entry       everything about one feature as one JSON object
    explained   one value of one customer: the events and parts that make it up
    markdown    the reference page kept in the repository
    page        the same for a browser: one searchable HTML file without outside assets
    json_schema JSON Schema of feature files and of the attributes file

All of it is made from a compiled policy, so it can never say anything else than what is computed.
"""
