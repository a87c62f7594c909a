"""What ``table`` is made of: the papers' files, the cells, the formats, and the table of claims."""
