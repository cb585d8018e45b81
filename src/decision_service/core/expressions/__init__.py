"""The expression language: one grammar and one typed tree for segments, derived features, rules and tables."""
