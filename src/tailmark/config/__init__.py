"""`params.yaml` as one frozen tree, checked whole before anything runs. One module for each group of stages."""

from tailmark.config.annotators import Classifier, Quality
from tailmark.config.data import Annotate, Decontaminate, Engine, EvaluationSet, Ingest, LongTail, NearDuplicates, TaxonomyConfig
from tailmark.config.llm import LLM
from tailmark.config.markers import check_markers
from tailmark.config.model import Base, Prepare, Train
from tailmark.config.results import Evaluate, Mode, Register, Tracking
from tailmark.config.sources import Source
from tailmark.config.tree import Config, load_config, parse_config, read_params
from tailmark.config.validation import ExpectationGroup, Validate

__all__ = [
    "LLM",
    "Annotate",
    "Base",
    "Classifier",
    "Config",
    "Decontaminate",
    "Engine",
    "Evaluate",
    "EvaluationSet",
    "ExpectationGroup",
    "Ingest",
    "LongTail",
    "Mode",
    "NearDuplicates",
    "Prepare",
    "Quality",
    "Register",
    "Source",
    "TaxonomyConfig",
    "Tracking",
    "Train",
    "Validate",
    "check_markers",
    "load_config",
    "parse_config",
    "read_params",
]
