"""Methods next to each other: finished runs in, one score, a table and a page out."""
