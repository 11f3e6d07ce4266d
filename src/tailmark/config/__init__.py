"""`params.yaml` as one frozen tree, checked whole before anything runs. One module for each group of stages."""

from tailmark.config.annotators import Classifier, Quality
from tailmark.config.benchmarks import (
    Benchmark,
    BenchmarkOptions,
    CodeLanguage,
    CodeTask,
    HumanEvalPack,
    LanguageConfusion,
    LengthBuckets,
    LengthInstructed,
    LMEval,
    OpenEnded,
    QualityLever,
    Repair,
    Translation,
)
from tailmark.config.data import Annotate, Decontaminate, Engine, EvaluationSet, Ingest, LongTail, NearDuplicates, TaxonomyConfig
from tailmark.config.gate import Gate
from tailmark.config.judges import Judge, LLMJudge, ReferenceJudge, RewardJudge
from tailmark.config.llm import LLM, Endpoint
from tailmark.config.markers import check_markers
from tailmark.config.model import Base, Lora, Prepare, Train
from tailmark.config.modes import Mode
from tailmark.config.results import HELDOUT_NAMES, Evaluate, Register, Tracking
from tailmark.config.serving import Serve
from tailmark.config.sources import Source
from tailmark.config.tree import Config, load_config, parse_config, read_params
from tailmark.config.validation import ExpectationGroup, Validate

__all__ = [
    "HELDOUT_NAMES",
    "LLM",
    "Annotate",
    "Base",
    "Benchmark",
    "BenchmarkOptions",
    "Classifier",
    "CodeLanguage",
    "CodeTask",
    "Config",
    "Decontaminate",
    "Endpoint",
    "Engine",
    "Evaluate",
    "EvaluationSet",
    "ExpectationGroup",
    "Gate",
    "HumanEvalPack",
    "Ingest",
    "Judge",
    "LLMJudge",
    "LMEval",
    "LanguageConfusion",
    "LengthBuckets",
    "LengthInstructed",
    "LongTail",
    "Lora",
    "Mode",
    "NearDuplicates",
    "OpenEnded",
    "Prepare",
    "Quality",
    "QualityLever",
    "ReferenceJudge",
    "Register",
    "Repair",
    "RewardJudge",
    "Serve",
    "Source",
    "TaxonomyConfig",
    "Tracking",
    "Train",
    "Translation",
    "Validate",
    "check_markers",
    "load_config",
    "parse_config",
    "read_params",
]
