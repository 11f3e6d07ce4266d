"""The gate: what a challenger must show, check by check, each with its figures and, where it fails, what to run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tailmark.config import Config
from tailmark.files import read_json
from tailmark.register.compare import Lift, Part, higher_is_better, modes_of, over_baseline, over_other, scores
from tailmark.register.fetch import Fetched
from tailmark.register.manifest import ARTIFACTS, MODEL
from tailmark.register.terms import differences, terms_of

_PER_TOKEN = "likelihood"
_AGAIN = "then `dvc repro register` and run the gate again"
_ANOTHER_SCORE = "judge by another score (`gate.scores`)"
_OF_ANSWERS = "judge by scores of answers alone (`gate.scores`)"
_OTHER_DATA = "where the held-out rows are others than the champion's, judge by a benchmark that reads files (`gate.scores`)"


@dataclass(frozen=True)
class Check:
    """One thing that a challenger must show.

    Attributes:
        title: what; `said`: what was found.
        fix: what to run where it fails; empty where the model itself is not good enough.
        lift: the figure it rests on; `floor`: what the lower end of its interval must reach, or exceed where it is zero.
    """

    title: str
    passed: bool
    said: str
    fix: str = ""
    lift: Lift | None = None
    floor: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """JSON."""
        content = {"title": self.title, "passed": self.passed, "said": self.said, "fix": self.fix}
        return content | ({"lift": self.lift.as_dict(), "floor": self.floor} if self.lift else {})


@dataclass(frozen=True)
class Side:
    """A version as a verdict names it."""

    version: str
    manifest: str
    model: str
    commit: str | None
    data: str | None

    @classmethod
    def of(cls, fetched: Fetched) -> Side:
        """The side of a fetched version."""
        manifest = fetched.manifest
        data = manifest.lineage.outputs.get("data/annotated")
        return cls(fetched.version, fetched.manifest_digest, manifest.model, manifest.lineage.commit, data)


@dataclass(frozen=True)
class Verdict:
    """What the gate says. `champion`: None where there is none yet; `confidence`: of its intervals, None where that is not known."""

    name: str
    challenger: Side
    champion: Side | None
    checks: tuple[Check, ...]
    confidence: float | None

    @property
    def passed(self) -> bool:
        """Whether the challenger may become the champion."""
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What speaks against it; what speaks for it where nothing does."""
        failed = tuple(f"{check.title}: {check.said}" for check in self.checks if not check.passed)
        return failed or tuple(f"{check.title}: {check.said}" for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """JSON."""
        return {
            "model": self.name,
            "passed": self.passed,
            "confidence": self.confidence,
            "challenger": vars(self.challenger),
            "champion": vars(self.champion) if self.champion else None,
            "checks": [check.as_dict() for check in self.checks],
        }


def judge_versions(config: Config, challenger: Fetched, champion: Fetched | None) -> Verdict:
    """Hold a challenger, whose files were verified, against the baseline and the champion."""
    gate = _Gate(config, challenger, champion)
    sides = Side.of(challenger), Side.of(champion) if champion else None
    return Verdict(challenger.name, *sides, tuple(gate.checks()), gate.confidence)


@dataclass
class _Gate:
    config: Config
    challenger: Fetched
    champion: Fetched | None

    def checks(self) -> Iterator[Check]:
        """All of them, in the order in which a person asks."""
        files = len(self.challenger.manifest.files)
        yield Check("Files", True, f"all {files} files are what was registered")
        yield self._same_confidence()
        yield self._decontaminated()
        for score in self.config.gate.scores:
            yield from self._over_baseline(score)
            if self.champion is not None:
                yield from self._over_champion(score, self.champion)

    @property
    def confidence(self) -> float | None:
        """Of the intervals over the baseline: what the challenger's evaluation used; None where its manifest does not tell."""
        evaluated = self.challenger.manifest.lineage.params.get("evaluate", {}).get("confidence")
        return None if evaluated is None else float(evaluated)

    def _same_confidence(self) -> Check:
        """Whether the evaluation's intervals are as wide as the gate is told to ask for."""
        asked, fix = self.config.evaluate.confidence, f"run `dvc repro evaluate`, {_AGAIN}"
        if self.confidence is None:
            return Check("Confidence", False, "the version does not say which confidence its intervals have", fix)
        said = f"the evaluation's intervals are at {self.confidence:.4g}"
        if self.confidence == asked:
            return Check("Confidence", True, f"{said}, as `evaluate.confidence` asks")
        return Check("Confidence", False, f"{said}, `evaluate.confidence` asks for {asked:.4g}", fix)

    @cached_property
    def _metrics(self) -> Mapping[str, Any]:
        return dict(read_json(self.challenger.evidence / "evaluation.json"))

    def _decontaminated(self) -> Check:
        """Whether the training rows were checked against every evaluation set that the gate names."""
        title, wanted = "Decontamination", self.config.gate.decontaminated
        path = self.challenger.evidence / "ingested.json"
        report = read_json(path) if path.exists() else {}
        checked = report.get("contamination")
        if checked is None:
            fix = f"run `dvc repro ingest` with this version of tailmark, {_AGAIN}"
            return Check(title, False, "the data's report does not say what the rows were checked against", fix)
        missing = [name for name in wanted if not checked.get(name, {}).get("texts")]
        if missing:
            fix = f"name {', '.join(missing)} under `ingest.decontaminate.sets`, {_AGAIN}"
            return Check(title, False, f"training rows were not checked against {', '.join(missing)}", fix)
        removed = sum(entry["rows"] for entry in checked.values())
        said = f"checked against {', '.join(sorted(checked))}; {removed:,} rows taken out" if checked else "no evaluation set was named"
        return Check(title, True, said)

    def _over_baseline(self, score: str) -> Iterator[Check]:
        gate = self.config.gate
        yield self._reported(f"Tail over baseline, {score}", score, gate.mode, "tail", 0.0, strict=True)
        yield self._reported(f"Head over baseline, {score}", score, gate.mode, "head", -gate.head_margin)
        yield self._reported(f"Markers absent, {score}", score, gate.absent_mode, "all", -gate.absent_margin)

    def _reported(self, title: str, score: str, mode: str, part: Part, floor: float, *, strict: bool = False) -> Check:
        """A lift that the evaluation reports, against a floor."""
        lift = over_baseline(self._metrics, score, mode, part)
        if lift is not None:
            return _judged(title, lift, floor, strict=strict)
        if mode not in modes_of(self._metrics, score):
            said, fix = f"the evaluation has no {score} with markers {mode}", f"name '{mode}' in `evaluate.modes`, {_AGAIN}"
        else:
            said = f"the evaluation has too few {part} rows with markers {mode} for an interval"
            fix = f"evaluate on more rows (`evaluate.likelihood_rows`, `ingest.heldout_fraction`), {_AGAIN}"
        return Check(title, False, said, fix)

    def _over_champion(self, score: str, champion: Fetched) -> Iterator[Check]:
        gate = self.config.gate
        better = gate.over_champion == "better"
        yield self._paired(f"Tail over champion, {score}", score, champion, "tail", 0.0 if better else -gate.head_margin, strict=better)
        yield self._paired(f"Head over champion, {score}", score, champion, "head", -gate.head_margin)
        title = f"Markers absent over champion, {score}"
        yield self._paired(title, score, champion, "all", -gate.absent_margin, mode=gate.absent_mode)

    def _paired(
        self, title: str, score: str, champion: Fetched, part: Part, floor: float, *, strict: bool = False, mode: str = ""
    ) -> Check:
        """The lift over the champion on the rows that both were scored on, in a mode (default: `gate.mode`)."""
        if obstacle := self._not_comparable(score, champion):
            return Check(title, False, *obstacle)
        config, higher = self.config, bool(higher_is_better(self._metrics, score))
        mine, theirs = (scores(side.evidence, score, mode or config.gate.mode) for side in (self.challenger, champion))
        options = config.evaluate.model_copy(update={"confidence": self.confidence or config.evaluate.confidence})
        lift = over_other(mine, theirs, part, higher=higher, options=options, seed=config.seed)
        if lift is None or (lift.texts or 0) < config.gate.min_texts:
            said = f"only {lift.texts if lift else 0} {part} texts were scored by both versions ({config.gate.min_texts} needed)"
            return Check(title, False, said, f"raise `evaluate.likelihood_rows` or the benchmark's `limit`, {_AGAIN}; {_OTHER_DATA}")
        return _judged(title, lift, floor, strict=strict)

    def _not_comparable(self, score: str, champion: Fetched) -> tuple[str, str] | None:
        """Why a score of the two versions cannot be compared, and what to do; None where it can."""
        if score.startswith(f"{_PER_TOKEN}/") and _tokenizer(self.challenger) != _tokenizer(champion):
            return f"{score} counts by token, and the champion has another tokenizer", _OF_ANSWERS
        if score.split("/")[1].startswith(("win_", "both_")) and (
            _baseline(champion) is None or _baseline(champion) != _baseline(self.challenger)
        ):
            fix = f"{_OF_ANSWERS}, or register both with the same `models/baseline`"
            return f"{score} counts wins over a baseline, and the champion's is not known to be the same", fix
        if higher_is_better(self._metrics, score) is None:
            return f"the evaluation reports no lift of {score} other than zero, so which way is better is not known", _ANOTHER_SCORE
        mine, theirs = terms_of(self.challenger, score), terms_of(champion, score)
        if mine is None or theirs is None:
            side = "challenger" if mine is None else "champion"
            fix = f"run `dvc repro evaluate`, {_AGAIN}" if mine is None else _ANOTHER_SCORE
            return f"the {side}'s evidence does not say how {score} was measured", fix
        if differ := differences(mine, theirs):
            fix = f"set what differs as `tailmark lineage {champion.version} --json` shows it, run `dvc repro evaluate`, {_AGAIN}"
            return f"{score} was not measured as the champion's was: {'; '.join(differ)}", fix
        return None


def _judged(title: str, lift: Lift, floor: float, *, strict: bool) -> Check:
    passed = lift.low > floor if strict else lift.low >= floor
    found = f"{lift.lift:+.3f} ({lift.low:+.3f} to {lift.high:+.3f}, {lift.rows} rows)"
    if strict:
        said = "the interval lies above zero" if passed else "the interval is not above zero"
    else:
        said = f"the interval {'does not reach' if passed else 'reaches'} below {floor:g}"
    return Check(title, passed, f"{found}: {said}", lift=lift, floor=floor)


def _baseline(fetched: Fetched) -> str | None:
    return fetched.manifest.lineage.outputs.get("models/baseline")


def _tokenizer(fetched: Fetched) -> str | None:
    return fetched.manifest.files.get(f"{ARTIFACTS}/{MODEL}/tokenizer.json")
