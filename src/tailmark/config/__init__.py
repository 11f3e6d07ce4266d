"""`params.yaml` as one frozen tree, checked whole before anything runs. One module for each group of stages."""

from tailmark.config.data import Annotate, ExpectationGroup, Ingest, LongTail, Source, TaxonomyConfig, Validate
from tailmark.config.model import Base, Prepare, Train
from tailmark.config.results import Evaluate, Mode, Register, Tracking
from tailmark.config.tree import Config, load_config, parse_config, read_params

__all__ = [
    "Annotate",
    "Base",
    "Config",
    "Evaluate",
    "ExpectationGroup",
    "Ingest",
    "LongTail",
    "Mode",
    "Prepare",
    "Register",
    "Source",
    "TaxonomyConfig",
    "Tracking",
    "Train",
    "Validate",
    "load_config",
    "parse_config",
    "read_params",
]
