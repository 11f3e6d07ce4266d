"""Which class serves which kind of `evaluate.benchmarks`. Modules are imported when their kind is asked for."""

from __future__ import annotations

from importlib import import_module

from tailmark.config import BenchmarkOptions
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.suite.base import Benchmark, Probe
from tailmark.layout import Layout

KINDS = {
    "humanevalpack": "tailmark.evaluate.suite.humanevalpack:HumanEvalPackBenchmark",
    "repair": "tailmark.evaluate.suite.repair:RepairBenchmark",
    "translation": "tailmark.evaluate.suite.translation:TranslationBenchmark",
    "lm_eval": "tailmark.evaluate.suite.lm_eval:LMEvalProbe",
    "length_instructed": "tailmark.evaluate.suite.length:LengthInstructedBenchmark",
    "language_confusion": "tailmark.evaluate.suite.language:LanguageConfusionBenchmark",
    "open_ended": "tailmark.evaluate.suite.open_ended:OpenEndedBenchmark",
    "quality_lever": "tailmark.evaluate.suite.quality:QualityLeverProbe",
    "length_buckets": "tailmark.evaluate.suite.buckets:LengthBucketsBenchmark",
}
"""Kind to module and class; a class is called with its options, the bench and the layout."""


def build(options: BenchmarkOptions, bench: Bench, layout: Layout) -> Benchmark | Probe:
    """The benchmark that options describe."""
    module, name = KINDS[str(options.kind)].split(":")  # type: ignore[attr-defined]
    made: Benchmark | Probe = getattr(import_module(module), name)(options, bench, layout)
    return made
