"""From annotated rows to packs: dropout, rendering, tokenizing, label verification, packing."""
