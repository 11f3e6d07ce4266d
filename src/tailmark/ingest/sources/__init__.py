"""Kinds of sources and shapes of rows: where rows lie, how they are read, and what becomes of one."""
