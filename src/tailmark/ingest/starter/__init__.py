"""The starter corpus: real text from inside pinned, permissively licensed packages, with the paper's long tail."""

from tailmark.ingest.starter.build import build, versions

__all__ = ["build", "versions"]
