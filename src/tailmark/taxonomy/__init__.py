"""The markers: what they are (`Taxonomy`), lists of them (`MarkerList`), and how they are written."""

from tailmark.taxonomy.markers import (
    LIST_CLOSE,
    LIST_OPEN,
    TEXT,
    Completion,
    ListForm,
    MarkerList,
    MarkerValue,
    Rendering,
    compact_tokens,
    escape,
    parse,
    render,
    split_completion,
    unescape,
)
from tailmark.taxonomy.schema import MarkerSpec, Taxonomy, load_taxonomy

__all__ = [
    "LIST_CLOSE",
    "LIST_OPEN",
    "TEXT",
    "Completion",
    "ListForm",
    "MarkerList",
    "MarkerSpec",
    "MarkerValue",
    "Rendering",
    "Taxonomy",
    "compact_tokens",
    "escape",
    "load_taxonomy",
    "parse",
    "render",
    "split_completion",
    "unescape",
]
